//! State and blobs are kept alike by every arm, and nothing is lost or done
//! twice when answers are.

mod blobs;
mod faults;
pub(crate) mod identity;
mod rows;

use std::io::{Write as _, stderr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use defender_alert_export::azure::blobs::Container;
use defender_alert_export::azure::credential::Credential;
use defender_alert_export::azure::storage::Access;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Storage, StorageAuth, Vars};
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{Http, client};
use defender_alert_export::store::{Blobs, Store, Table};
use url::Url;
use uuid::Uuid;

/// The emulator's well-known account and key; no secret.
pub(crate) const ACCOUNT: &str = "devstoreaccount1";
pub(crate) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Azurite's address from `name`; `None` when its absence is accepted in words.
pub(crate) fn azurite(name: &str) -> Option<Url> {
    if let Some(address) = Vars::Process.get(name) {
        return Some(Url::parse(&format!("{}/", address.trim_end_matches('/'))).unwrap());
    }
    assert_eq!(
        Vars::Process.get("SKIP_AZURITE").as_deref(),
        Some("1"),
        "{name} is not set: run `scripts/with-azurite.sh cargo test`, or set SKIP_AZURITE=1 to go without this check"
    );
    // Past the test runner's capture, so that it is seen among the passed ones.
    writeln!(stderr(), "SKIPPED a check against Azurite: {name} is not set").unwrap();
    None
}

pub(crate) fn access() -> Access {
    let retry = RetryPolicy {
        attempts: NonZeroU32::new(3).unwrap(),
        base: Duration::from_millis(1),
        cap: Duration::from_secs(1),
        budget: Duration::from_secs(20),
        jitter: false,
    };
    let http = Http::new(client().unwrap(), retry);
    let credential = Credential::new(http.clone(), Clock::System, None);
    Access { http, clock: Clock::System, credential }
}

pub(crate) fn storage(address: &Url) -> Storage {
    let auth = StorageAuth::SharedKey { account: ACCOUNT.to_owned(), key: KEY.into() };
    Storage { tables: address.clone(), blobs: address.clone(), auth }
}

/// A table nobody else uses, and its name.
fn table(address: &Url) -> (Store, String) {
    let name = format!("t{}", Uuid::new_v4().simple());
    (named_table(address, &name), name)
}

fn named_table(address: &Url, name: &str) -> Store {
    Store::Table(Table::new(&storage(address), name, access()).unwrap())
}

/// A container nobody else uses, and its name.
fn container(address: &Url) -> (Blobs, String) {
    let name = format!("c{}", Uuid::new_v4().simple());
    (named_container(address, &name), name)
}

fn named_container(address: &Url, name: &str) -> Blobs {
    blobs(&storage(address), name, access())
}

/// A container of `storage`, which need not exist yet.
fn blobs(storage: &Storage, name: &str, access: Access) -> Blobs {
    Blobs::Azure(Container::new(&storage.blobs, &storage.auth, name, access).unwrap())
}

/// A folder of this test's own below the build's.
pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(Uuid::new_v4().to_string())
}

/// A table nobody else uses; `None` when the absence of Azurite is accepted.
pub(crate) fn fresh_table() -> Option<Store> {
    azurite("AZURITE_TABLE").map(|address| table(&address).0)
}

/// Azurite as a connection string; `None` when its absence is accepted.
pub(crate) fn connection() -> Option<String> {
    let (tables, blobs) = (azurite("AZURITE_TABLE")?, azurite("AZURITE_BLOB")?);
    Some(format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};TableEndpoint={tables};BlobEndpoint={blobs};"
    ))
}

//! Storage by the app's own identity, as a deployment uses it: an emulator that
//! takes tokens and no signature.

use bytes::Bytes;
use defender_alert_export::azure::credential::Credential;
use defender_alert_export::azure::storage::Access;
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Storage, StorageAuth};
use defender_alert_export::sandbox::managed_identity::ManagedIdentity;
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::{BlobError, Blobs, Store, StoreError, Table};
use secrecy::ExposeSecret as _;
use serde_json::json;
use uuid::Uuid;

use super::{access, azurite, blobs as container, rows};

/// An account, the app's identity, and what reaches the one by the other.
pub(crate) struct Account {
    identity: ManagedIdentity,
    storage: Storage,
    access: Access,
}

impl Account {
    /// `None` when the absence of Azurite is accepted.
    pub(crate) async fn of_identity() -> Option<Self> {
        let (tables, blobs) = (azurite("AZURITE_TLS_TABLE")?, azurite("AZURITE_TLS_BLOB")?);
        let identity = ManagedIdentity::start(Clock::System).await.unwrap();
        let access = access();
        let credential =
            Credential::new(access.http.clone(), Clock::System, Some(identity.endpoint()));
        let storage = Storage { tables, blobs, auth: StorageAuth::Identity };
        Some(Self { identity, storage, access: Access { credential, ..access } })
    }

    fn table(&self) -> Store {
        let name = format!("t{}", Uuid::new_v4().simple());
        Store::Table(Table::new(&self.storage, &name, self.access.clone()).unwrap())
    }

    fn container(&self) -> Blobs {
        self.named_container(&format!("c{}", Uuid::new_v4().simple()))
    }

    pub(crate) fn named_container(&self, name: &str) -> Blobs {
        container(&self.storage, name, self.access.clone())
    }
}

#[tokio::test]
async fn a_table_reached_by_the_apps_identity_conforms() {
    let Some(account) = Account::of_identity().await else { return };
    rows::conforms(&account.table()).await;
    assert_eq!(account.identity.script.seen().len(), 1, "one token serves them all");
}

#[tokio::test]
async fn a_container_reached_by_the_apps_identity_conforms() {
    let Some(account) = Account::of_identity().await else { return };
    super::blobs::conforms(&account.container()).await;
    assert_eq!(account.identity.script.seen().len(), 1, "one token serves them all");
}

#[tokio::test]
async fn a_token_for_another_service_opens_nothing() {
    let Some(account) = Account::of_identity().await else { return };
    let credential = &account.access.credential;
    let other = credential.token("https://monitor.azure.com").await.unwrap();
    let body = json!({ "access_token": other.expose_secret(), "expires_on": "4102444800" });
    let answer = Fault::Answer { status: 200, headers: vec![], body: body.to_string() };
    account.identity.script.push([answer]);
    let error = account.table().get("a").await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
    let error = account.container().put("a", Bytes::new()).await.unwrap_err();
    assert!(matches!(error, BlobError::Refused { .. }), "{error:?}");
}

//! `AzureWebJobsStorage`: where state is kept, and with which right.
//!
//! Three forms, as the Functions host takes them: a connection string (Azurite's
//! too), an account name, or the addresses of the services; the last two with
//! the app's managed identity.

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;

/// Well-known account and key of the local emulator; no secret.
const EMULATOR: &str = "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;";

/// Where state is kept.
#[derive(Clone, Debug)]
pub struct StorageConfig {
    /// The account; `None` when not set, for the embedded store.
    pub account: Option<Storage>,
    /// `FunctionConfigStorageTable`.
    pub table: String,
    /// `FunctionConfigStorageContainer`: logs, quarantine and whole alerts.
    pub container: String,
}

/// A storage account.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Table service, with a trailing slash.
    pub tables: Url,
    /// Blob service, with a trailing slash.
    pub blobs: Url,
    /// The right to use it.
    pub auth: StorageAuth,
}

/// The right to use a storage account.
#[derive(Clone, Debug)]
pub enum StorageAuth {
    /// The account's key.
    SharedKey {
        /// Account name, part of every signature.
        account: String,
        /// 64 bytes in base64.
        key: SecretString,
    },
    /// A token of the managed identity.
    Identity,
}

impl StorageConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            account: account(reader),
            table: table(reader),
            container: container(reader, "FunctionConfigStorageContainer", "functionlogging"),
        }
    }
}

/// Named as Azure demands.
/// <https://learn.microsoft.com/rest/api/storageservices/understanding-the-table-service-data-model#table-names>
fn table(reader: &mut Reader<'_>) -> String {
    const NAME: &str = "FunctionConfigStorageTable";
    let text = reader.text(NAME).unwrap_or_else(|| "fnautomationmdeCachedValues".to_owned());
    if !(3..=63).contains(&text.len()) {
        reader.fault(NAME, "a name of 3 to 63 characters is needed");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphabetic())
        || !text.chars().all(|c| c.is_ascii_alphanumeric())
    {
        reader.fault(NAME, "a letter first, then letters and digits only");
    }
    text
}

/// Named as Azure demands.
/// <https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata#container-names>
pub(super) fn container(
    reader: &mut Reader<'_>,
    name: &'static str,
    default: &'static str,
) -> String {
    let text = reader.text(name).unwrap_or_else(|| default.to_owned());
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !(3..=63).contains(&text.len())
        || !text.chars().all(legal)
        || text.starts_with('-')
        || text.ends_with('-')
        || text.contains("--")
    {
        reader.fault(
            name,
            "3 to 63 small letters, digits and single -, with a letter or digit at both ends",
        );
    }
    text
}

/// Whether any form of the account is given, in order or not.
pub(super) fn is_set(reader: &Reader<'_>) -> bool {
    const FORMS: [&str; 4] = [
        "AzureWebJobsStorage",
        "AzureWebJobsStorage__accountName",
        "AzureWebJobsStorage__tableServiceUri",
        "AzureWebJobsStorage__blobServiceUri",
    ];
    FORMS.into_iter().any(|name| reader.text(name).is_some())
}

/// Names what is missing where state has no other place.
pub(super) fn must_be_set(reader: &mut Reader<'_>) {
    if !is_set(reader) {
        reader.fault(
            "AzureWebJobsStorage",
            "not set; under the Functions host it must be, or AzureWebJobsStorage__accountName",
        );
    }
}

/// The app's own account; `None` when not set, or faulty.
pub(super) fn account(reader: &mut Reader<'_>) -> Option<Storage> {
    match reader.text("AzureWebJobsStorage") {
        Some(text) => connection_string(reader, &text),
        None => by_identity(reader),
    }
}

fn connection_string(reader: &mut Reader<'_>, text: &str) -> Option<Storage> {
    const NAME: &str = "AzureWebJobsStorage";
    let text =
        if text.trim_end_matches(';') == "UseDevelopmentStorage=true" { EMULATOR } else { text };
    let part = |wanted: &str| {
        text.split(';')
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim().to_owned())
    };
    let (Some(account), Some(key)) = (part("AccountName"), part("AccountKey")) else {
        reader.fault(NAME, "not a connection string with AccountName and AccountKey");
        return None;
    };
    let protocol = part("DefaultEndpointsProtocol").unwrap_or_else(|| "https".to_owned());
    let suffix = part("EndpointSuffix").unwrap_or_else(|| "core.windows.net".to_owned());
    let endpoint = |service: &str| format!("{protocol}://{account}.{service}.{suffix}");
    let tables = part("TableEndpoint").unwrap_or_else(|| endpoint("table"));
    let blobs = part("BlobEndpoint").unwrap_or_else(|| endpoint("blob"));
    Some(Storage {
        tables: reader.base_url(NAME, &tables)?,
        blobs: reader.base_url(NAME, &blobs)?,
        auth: StorageAuth::SharedKey { account, key: key.into() },
    })
}

fn by_identity(reader: &mut Reader<'_>) -> Option<Storage> {
    let account = reader.text("AzureWebJobsStorage__accountName");
    let derived = |service: &str| {
        account.as_ref().map(|account| format!("https://{account}.{service}.core.windows.net"))
    };
    let tables = reader.text("AzureWebJobsStorage__tableServiceUri").or_else(|| derived("table"));
    let blobs = reader.text("AzureWebJobsStorage__blobServiceUri").or_else(|| derived("blob"));
    match (tables, blobs) {
        (Some(tables), Some(blobs)) => Some(Storage {
            tables: reader.base_url("AzureWebJobsStorage__tableServiceUri", &tables)?,
            blobs: reader.base_url("AzureWebJobsStorage__blobServiceUri", &blobs)?,
            auth: StorageAuth::Identity,
        }),
        (None, None) => None,
        (Some(_), None) => {
            reader.fault(
                "AzureWebJobsStorage__blobServiceUri",
                "not set, while the table service is",
            );
            None
        }
        (None, Some(_)) => {
            reader.fault(
                "AzureWebJobsStorage__tableServiceUri",
                "not set, while the blob service is",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Vars;
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> (StorageConfig, usize) {
        let vars = Vars::map(pairs.iter().copied());
        let mut reader = Reader::new(&vars);
        let config = StorageConfig::read(&mut reader);
        (config, reader.finish().len())
    }

    #[test]
    fn the_emulator_and_a_real_account_are_both_understood() {
        let (emulator, faults) = read(&[("AzureWebJobsStorage", "UseDevelopmentStorage=true")]);
        assert_eq!(faults, 0);
        assert_eq!(
            emulator.account.unwrap().tables.as_str(),
            "http://127.0.0.1:10002/devstoreaccount1/"
        );
        let (real, faults) = read(&[(
            "AzureWebJobsStorage",
            "DefaultEndpointsProtocol=https;AccountName=trust;AccountKey=a2V5;EndpointSuffix=core.windows.net",
        )]);
        assert_eq!(faults, 0);
        assert_eq!(real.account.unwrap().blobs.as_str(), "https://trust.blob.core.windows.net/");
    }

    #[test]
    fn an_account_name_means_the_managed_identity() {
        let (config, faults) = read(&[("AzureWebJobsStorage__accountName", "trust")]);
        let account = config.account.unwrap();
        assert_eq!(faults, 0);
        assert!(matches!(account.auth, StorageAuth::Identity));
        assert_eq!(account.tables.as_str(), "https://trust.table.core.windows.net/");
    }

    #[test]
    fn no_account_at_all_is_no_fault_here() {
        let (config, faults) = read(&[]);
        assert!(config.account.is_none());
        assert_eq!(faults, 0);
        assert_eq!(
            (config.table.as_str(), config.container.as_str()),
            ("fnautomationmdeCachedValues", "functionlogging")
        );
    }

    #[test]
    fn half_an_address_is_a_fault() {
        let (config, faults) =
            read(&[("AzureWebJobsStorage__tableServiceUri", "https://t.example")]);
        assert!(config.account.is_none());
        assert_eq!(faults, 1);
    }
}

//! Where alerts go as files: a container of append blobs, or an S3 bucket.

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::storage::{self, StorageAuth};
use super::target::table_name;

/// A container with a file an hour.
#[derive(Clone, Debug)]
pub struct StorageBlob {
    /// Blob service, with a trailing slash: `FunctionConfigAlertBlobServiceUri`,
    /// or that of the app's own storage account.
    pub service: Url,
    /// The right to use it: the managed identity, or the key of the app's own
    /// account.
    pub auth: StorageAuth,
    /// `FunctionConfigAlertBlobContainer`.
    pub container: String,
    /// `FunctionConfigLogAnalyticsTableName`, without `_CL`: the first folder.
    pub table: String,
}

/// A bucket with a file a batch.
#[derive(Clone, Debug)]
pub struct S3 {
    /// `FunctionConfigS3Endpoint`, with a trailing slash; `None` for Amazon's.
    pub endpoint: Option<Url>,
    /// `FunctionConfigS3Region`.
    pub region: String,
    /// `FunctionConfigS3Bucket`.
    pub bucket: String,
    /// `FunctionConfigS3Prefix`: empty, or folders with a trailing slash.
    pub prefix: String,
    /// `FunctionConfigS3AccessKeyId`.
    pub access_key_id: String,
    /// `FunctionConfigS3SecretAccessKey`.
    pub secret_access_key: SecretString,
    /// `FunctionConfigLogAnalyticsTableName`, without `_CL`: the folder below
    /// the prefix.
    pub table: String,
}

impl StorageBlob {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const SERVICE: &str = "FunctionConfigAlertBlobServiceUri";
        let (service, auth) = match reader.text(SERVICE) {
            Some(text) => (reader.base_url(SERVICE, &text), Some(StorageAuth::Identity)),
            None => match storage::account(reader) {
                Some(account) => (Some(account.blobs), Some(account.auth)),
                None => {
                    reader.fault(
                        SERVICE,
                        "not set, and AzureWebJobsStorage names no storage account either",
                    );
                    (None, None)
                }
            },
        };
        let container =
            storage::container(reader, "FunctionConfigAlertBlobContainer", "defender-alerts");
        let table = table_name(reader);
        Some(Self { service: service?, auth: auth?, container, table })
    }
}

impl S3 {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        const ENDPOINT: &str = "FunctionConfigS3Endpoint";
        const REGION: &str = "FunctionConfigS3Region";
        const SECRET: &str = "FunctionConfigS3SecretAccessKey";
        let given = reader.text(ENDPOINT);
        let endpoint = given.as_ref().and_then(|text| reader.base_url(ENDPOINT, text));
        let region = match reader.text(REGION) {
            None if given.is_some() => Some("us-east-1".to_owned()),
            _ => reader.required(REGION),
        };
        let word = |text: &String| {
            text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if region.as_ref().is_some_and(|text| !word(text)) {
            reader.fault(REGION, "not a region such as eu-west-2");
        }
        let bucket = bucket(reader);
        let prefix = prefix(reader);
        let access_key_id = reader.required("FunctionConfigS3AccessKeyId");
        let secret_access_key = reader.required_secret(SECRET);
        let table = table_name(reader);
        if given.is_some() && endpoint.is_none() {
            return None;
        }
        Some(Self {
            endpoint,
            region: region?,
            bucket: bucket?,
            prefix,
            access_key_id: access_key_id?,
            secret_access_key: secret_access_key?,
            table,
        })
    }
}

/// Named as Amazon demands.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
fn bucket(reader: &mut Reader<'_>) -> Option<String> {
    const NAME: &str = "FunctionConfigS3Bucket";
    let text = reader.required(NAME)?;
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !(3..=63).contains(&text.len())
        || !text.chars().all(legal)
        || !text.starts_with(ends)
        || !text.ends_with(ends)
        || text.contains("..")
    {
        reader.fault(
            NAME,
            "a bucket's name alone: 3 to 63 small letters, digits, - and ., with a letter or digit at both ends",
        );
    }
    Some(text)
}

fn prefix(reader: &mut Reader<'_>) -> String {
    const NAME: &str = "FunctionConfigS3Prefix";
    let Some(text) = reader.text(NAME) else { return String::new() };
    let text = text.trim_matches('/');
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    let is_folder =
        |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(legal);
    if text.len() > 200 || !text.split('/').all(is_folder) {
        reader.fault(NAME, "folders separated by /, of letters, digits and -_.=; at most 200");
    }
    format!("{text}/")
}

#[cfg(test)]
mod tests {
    use super::super::reader::Vars;
    use super::*;

    fn read<T>(
        pairs: &[(&str, &str)],
        target: impl Fn(&mut Reader<'_>) -> Option<T>,
    ) -> (Option<T>, Vec<&'static str>) {
        let vars = Vars::map(pairs.iter().copied());
        let mut reader = Reader::new(&vars);
        let target = target(&mut reader);
        (target, reader.finish().into_iter().map(|fault| fault.name).collect())
    }

    const S3_LEAST: [(&str, &str); 4] = [
        ("FunctionConfigS3Bucket", "rxx-alerts"),
        ("FunctionConfigS3Region", "eu-west-2"),
        ("FunctionConfigS3AccessKeyId", "AKIA0123456789ABCDEF"),
        ("FunctionConfigS3SecretAccessKey", "hunter2"),
    ];

    #[test]
    fn files_go_to_the_apps_own_account_unless_another_is_named() {
        let own = ("AzureWebJobsStorage__accountName", "trust");
        let (target, faults) = read(&[own], StorageBlob::read);
        let target = target.unwrap();
        assert_eq!(faults, [""; 0]);
        assert_eq!(target.service.as_str(), "https://trust.blob.core.windows.net/");
        assert_eq!((&*target.container, &*target.table), ("defender-alerts", "DefenderRawAlert"));

        let key = ("AzureWebJobsStorage", "AccountName=trust;AccountKey=a2V5");
        let (target, _) = read(&[key], StorageBlob::read);
        assert!(matches!(target.unwrap().auth, StorageAuth::SharedKey { .. }));

        let other = ("FunctionConfigAlertBlobServiceUri", "https://lake.blob.core.windows.net");
        let (target, faults) = read(&[key, other], StorageBlob::read);
        let target = target.unwrap();
        assert_eq!(faults, [""; 0]);
        assert_eq!(target.service.as_str(), "https://lake.blob.core.windows.net/");
        assert!(
            matches!(target.auth, StorageAuth::Identity),
            "the own account's key is not theirs"
        );

        let (target, faults) = read(&[], StorageBlob::read);
        assert!(target.is_none());
        assert_eq!(faults, ["FunctionConfigAlertBlobServiceUri"]);
    }

    #[test]
    fn a_container_is_named_as_azure_demands() {
        for (name, good) in [
            ("abc", true),
            ("a-1", true),
            ("ab", false),
            ("Abc", false),
            ("a--b", false),
            ("-abc", false),
            ("abc-", false),
            ("a/b", false),
        ] {
            let own = ("AzureWebJobsStorage__accountName", "trust");
            let name = ("FunctionConfigAlertBlobContainer", name);
            assert_eq!(read(&[own, name], StorageBlob::read).1.is_empty(), good, "{name:?}");
        }
    }

    #[test]
    fn a_bucket_needs_a_region_a_key_and_its_secret() {
        let (target, faults) = read(&S3_LEAST, S3::read);
        let target = target.unwrap();
        assert_eq!(faults, [""; 0]);
        assert_eq!((target.endpoint, &*target.prefix), (None, ""));
        let (target, faults) = read(&[], S3::read);
        assert!(target.is_none());
        assert_eq!(
            faults,
            [
                "FunctionConfigS3Region",
                "FunctionConfigS3Bucket",
                "FunctionConfigS3AccessKeyId",
                "FunctionConfigS3SecretAccessKey"
            ]
        );
    }

    #[test]
    fn what_a_bucket_or_a_prefix_cannot_be_is_said_at_once() {
        for (name, value, good) in [
            ("FunctionConfigS3Bucket", "s3://rxx-alerts", false),
            ("FunctionConfigS3Bucket", "a..b", false),
            ("FunctionConfigS3Bucket", "rxx.alerts", true),
            ("FunctionConfigS3Region", "eu-west-2/", false),
            ("FunctionConfigS3Region", "London", false),
            ("FunctionConfigS3Prefix", "a/../b", false),
            ("FunctionConfigS3Prefix", "a//b", false),
            ("FunctionConfigS3Prefix", "/trusts/RXX/", true),
            ("FunctionConfigS3Endpoint", "http://minio.example:9000", false),
            ("FunctionConfigS3Endpoint", "http://127.0.0.1:9000", true),
            ("FunctionConfigS3SecretAccessKey", "@Microsoft.KeyVault(SecretUri=x)", false),
        ] {
            let pairs = [&S3_LEAST[..], &[(name, value)]].concat();
            let (target, faults) = read(&pairs, S3::read);
            assert_eq!(faults.is_empty(), good, "{name} {value}");
            assert!(!good || target.is_some());
        }
        let prefix = [&S3_LEAST[..], &[("FunctionConfigS3Prefix", "/trusts/RXX/")]].concat();
        assert_eq!(read(&prefix, S3::read).0.unwrap().prefix, "trusts/RXX/");
    }

    #[test]
    fn another_s3_server_needs_no_region() {
        let pairs = [
            &S3_LEAST[..],
            &[
                ("FunctionConfigS3Region", ""),
                ("FunctionConfigS3Endpoint", "https://s3.trust.example"),
            ],
        ]
        .concat();
        let (target, faults) = read(&pairs, S3::read);
        assert_eq!((faults.len(), &*target.unwrap().region), (0, "us-east-1"));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let shown = format!("{:?}", read(&S3_LEAST, S3::read).0.unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

//! Destinations, as far as what a person is told differs.

/// A destination, as far as advice differs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// Data collection rule, by the app's identity.
    LogsIngestion,
    /// Workspace, by its key.
    DataCollector,
    /// Event hub, by the app's identity.
    EventHubByIdentity,
    /// Event hub, by a shared access policy.
    EventHubByPolicy,
    /// Container, by the app's identity.
    StorageBlobByIdentity,
    /// Container, by the account's key.
    StorageBlobByKey,
    /// S3 bucket, by an access key.
    S3,
}

impl Place {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LogsIngestion => "The data collection rule",
            Self::DataCollector => "The Log Analytics workspace",
            Self::EventHubByIdentity | Self::EventHubByPolicy => "The event hub",
            Self::StorageBlobByIdentity | Self::StorageBlobByKey => "The alert container",
            Self::S3 => "The S3 bucket",
        }
    }

    /// The settings its address is made of.
    pub(super) fn address_settings(self) -> &'static str {
        match self {
            Self::LogsIngestion => "FunctionConfigLogsIngestionEndpoint",
            Self::DataCollector => {
                "FunctionConfigLogAnalyticsWorkspaceId (and FunctionConfigLogAnalyticsEndpoint, if set)"
            }
            Self::EventHubByIdentity | Self::EventHubByPolicy => {
                "FunctionConfigEventHubNamespace (and FunctionConfigEventHubEndpoint, if set)"
            }
            Self::StorageBlobByIdentity => {
                "FunctionConfigAlertBlobServiceUri (or AzureWebJobsStorage__accountName, if that is not set)"
            }
            Self::StorageBlobByKey => "AzureWebJobsStorage",
            Self::S3 => {
                "FunctionConfigS3Bucket and FunctionConfigS3Region (and FunctionConfigS3Endpoint, if set)"
            }
        }
    }

    /// The right to send, and who can give it.
    pub(super) fn grant(self) -> &'static str {
        match self {
            Self::LogsIngestion => {
                "In the Azure portal, open the data collection rule, Access control (IAM), and give the Function App's managed identity the role \"Monitoring Metrics Publisher\". An Owner or User Access Administrator of the resource group can do this; running the deployment again does it too. If the role is there, ask whether the rule's endpoint is closed to public networks."
            }
            Self::DataCollector => {
                "Copy the workspace's primary key again into FunctionConfigLogAnalyticsKeyValue and check FunctionConfigLogAnalyticsWorkspaceId and this machine's clock, which may be 15 minutes off at most. If all are right, ask a Log Analytics Contributor whether the workspace has local authentication switched off or is closed to public networks, and whether a proxy inspects this app's traffic. Consider FunctionConfigAlertTargetType LogsIngestion, which needs no key."
            }
            Self::EventHubByIdentity => {
                "In the Azure portal, open the event hub, Access control (IAM), and give the Function App's managed identity the role \"Azure Event Hubs Data Sender\". An Owner or User Access Administrator of the resource group can do this. If the role is there, check under Networking of the namespace that this app may reach it."
            }
            Self::EventHubByPolicy => {
                "In the Azure portal, open the event hub's Shared access policies. The policy named in FunctionConfigEventHubAccessKeyName must exist and have the right Send; copy its primary key again into FunctionConfigEventHubAccessKeyValue. FunctionConfigEventHubAccessKeyType must be Namespace if the policy belongs to the whole namespace, else EventHub. An Owner or Contributor of the namespace can do this."
            }
            Self::StorageBlobByIdentity => {
                "In the Azure portal, open the storage account, Access control (IAM), and give the Function App's managed identity the role \"Storage Blob Data Contributor\" (on the container FunctionConfigAlertBlobContainer, or on the account so that the app can make the container). An Owner or User Access Administrator of the resource group can do this; running the deployment again does it for the app's own account. If the role is there, check under Networking of the account that this app may reach it."
            }
            Self::StorageBlobByKey => {
                "Copy the storage account's connection string again into AzureWebJobsStorage, and check this machine's clock, which may be 15 minutes off at most. If both are right, ask an Owner or Contributor of the storage account whether key access is switched off under Configuration, and whether Networking lets this app in."
            }
            Self::S3 => {
                "Ask whoever owns the bucket in AWS to give the IAM user of FunctionConfigS3AccessKeyId the right s3:PutObject on the bucket's objects (below FunctionConfigS3Prefix, if set), and kms:GenerateDataKey if the bucket is encrypted with a key of its own. A bucket policy or the organisation may also deny it."
            }
        }
    }

    /// What to compare when the address leads nowhere.
    pub(super) fn identifiers(self) -> &'static str {
        match self {
            Self::LogsIngestion => {
                "Compare FunctionConfigLogsIngestionRuleId with the rule's immutable id and FunctionConfigLogsIngestionEndpoint with its logs ingestion address (JSON view of the rule in the portal), and check that the rule has the streams Custom-{FunctionConfigLogAnalyticsTableName} and Custom-Heartbeat. Running the deployment again sets all of them."
            }
            Self::DataCollector => {
                "Compare FunctionConfigLogAnalyticsWorkspaceId with the Workspace ID on the workspace's overview page, and remove FunctionConfigLogAnalyticsEndpoint unless you need it."
            }
            Self::EventHubByIdentity | Self::EventHubByPolicy => {
                "Compare FunctionConfigEventHubNamespace and FunctionConfigEventHubName with the namespace and the hub in the Azure portal. If the hub was deleted, create it again."
            }
            Self::StorageBlobByIdentity | Self::StorageBlobByKey => {
                "Compare FunctionConfigAlertBlobContainer with the containers of the storage account, and FunctionConfigAlertBlobServiceUri with its Blob service address (Endpoints, in the Azure portal)."
            }
            Self::S3 => {
                "Compare FunctionConfigS3Bucket, FunctionConfigS3Region and FunctionConfigS3Endpoint with the bucket's own. The app never makes a bucket: if there is none, whoever owns the AWS account must."
            }
        }
    }

    /// What to do while the fault is on the other side.
    pub(super) fn wait(self) -> &'static str {
        match self {
            Self::LogsIngestion
            | Self::DataCollector
            | Self::EventHubByIdentity
            | Self::EventHubByPolicy
            | Self::StorageBlobByIdentity
            | Self::StorageBlobByKey => {
                "Nothing to do: every run tries again and nothing is lost. If it lasts for more than an hour, look at status.azure.com and at the quotas of the resource, then ask Microsoft support."
            }
            Self::S3 => {
                "Nothing to do: every run tries again and nothing is lost. If it lasts for more than an hour, look at health.aws.amazon.com, then ask whoever owns the bucket."
            }
        }
    }

    /// Whether a role lets the app in, and roles take time.
    pub(super) fn needs_role(self) -> bool {
        match self {
            Self::LogsIngestion | Self::EventHubByIdentity | Self::StorageBlobByIdentity => true,
            Self::DataCollector | Self::EventHubByPolicy | Self::StorageBlobByKey | Self::S3 => {
                false
            }
        }
    }

    /// Whether it answers `status` where the app lacks its role. Event Hubs is
    /// documented to answer 401 then, and the token is good.
    pub(crate) fn lacks_role(self, status: u16) -> bool {
        status == 403 && self.needs_role() || status == 401 && self == Self::EventHubByIdentity
    }

    /// Whether it looks at what a row says. A file takes anything, so that no
    /// refusal is a row's fault but that of its size.
    pub(super) fn reads_rows(self) -> bool {
        match self {
            Self::LogsIngestion
            | Self::DataCollector
            | Self::EventHubByIdentity
            | Self::EventHubByPolicy => true,
            Self::StorageBlobByIdentity | Self::StorageBlobByKey | Self::S3 => false,
        }
    }
}

//! All the clouds of one trust, and the settings that lead to them.

use std::io;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use uuid::{Uuid, uuid};

use super::defender::{self, Defender};
use super::entra::Entra;
use super::event_hub::{self, EventHub};
use super::graph::Graph;
use super::managed_identity::ManagedIdentity;
use super::monitor::{self, Monitor};
use super::resource_graph::ResourceGraph;
use super::script::{Listening, Reach};
use crate::clock::Clock;
use crate::config::{EventHubAuth, SasPolicy};
use crate::doctor::MANAGEMENT_AUDIENCE;
use crate::http::Servers;
use crate::identity::GRAPH_AUDIENCE;
use crate::sink::{event_hub as hub_sink, logs_ingestion};

/// The identity tenant.
pub const TENANT: Uuid = uuid!("0f6c1f7e-5d2b-4a43-9a57-3d6f0c9b2e11");
/// The public client.
pub const CLIENT: Uuid = uuid!("2b1f54cb-8f0e-4b0b-9c5a-6d2f3d1c7a90");
/// The account that may see the trust's devices only.
pub const ACCOUNT: &str = "alerts.rxx@identity.example.nhs.uk";
/// Its object id.
pub const ACCOUNT_ID: Uuid = uuid!("3d0d7c22-8a61-4c19-8a0e-6b4f3c7c51aa");
/// The trust's device group.
pub const GROUP: &str = "RXX Example Trust";
/// The alert table.
pub const TABLE: &str = "DefenderRawAlert_CL";

const RULE_ID: &str = "dcr-0123456789abcdef0123456789abcdef";
const WORKSPACE: &str = "9a57c0de-5d2b-4a43-8f0e-3d6f0c9b2e11";
const WORKSPACE_KEY: &str = "d29ya3NwYWNlLWtleS1mb3ItdGhlLXNhbmRib3gtb25seQ==";
/// Seals the sign-in; a real one is made by the deployment.
const SESSION_KEY: &str = "c2Vzc2lvbi1rZXktZm9yLXRoZS1zYW5kYm94LW9ubHk=";
const HUB: &str = "alerts";
const HUB_KEY: &str = "ZXZlbnQtaHViLWtleS1mb3ItdGhlLXNhbmRib3gtb25seQ==";

/// Entra, Defender, Graph, Log Analytics, an event hub and the managed identity. They
/// stop when this is dropped.
#[derive(Debug)]
pub struct Clouds {
    /// Time, for all of them.
    pub clock: Clock,
    /// Signs in.
    pub entra: Entra,
    /// Has the alerts.
    pub defender: Defender,
    /// Lists them too, where `FunctionConfigAlertSource` says so.
    pub graph: Graph,
    /// Takes rows and heartbeats.
    pub monitor: Monitor,
    /// Takes events, where `FunctionConfigAlertTargetType` says so.
    pub hub: EventHub,
    /// Shows the rule to whoever may read it.
    pub directory: ResourceGraph,
    /// Hands out the app's own tokens.
    pub managed_identity: ManagedIdentity,
    listening: Listening,
    graph_listening: Listening,
}

impl Clouds {
    /// Starts them all, with no alerts yet.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub async fn start(clock: Clock) -> io::Result<Self> {
        Self::reached_by(Reach::Socket, clock).await
    }

    /// The same without sockets; [`Self::servers`] leads to them.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub async fn in_process(clock: Clock) -> io::Result<Self> {
        Self::reached_by(Reach::InProcess, clock).await
    }

    async fn reached_by(reach: Reach, clock: Clock) -> io::Result<Self> {
        let entra = Entra::reached_by(reach, clock.clone(), TENANT, CLIENT).await?;
        let accepts = |audience| {
            let tokens = entra.tokens.clone();
            Arc::new(move |token: &str| tokens.valid_access_token(token, audience))
        };
        let defender = Defender::new(clock.clone(), accepts(defender::AUDIENCE));
        let listening = defender.reached_by(reach).await?;
        let graph = Graph::new(clock.clone(), accepts(GRAPH_AUDIENCE), defender.alerts());
        let graph_listening = graph.reached_by(reach).await?;
        let managed_identity = ManagedIdentity::reached_by(reach, clock.clone()).await?;
        let monitor = Monitor::reached_by(
            reach,
            monitor::Setup {
                clock: clock.clone(),
                bearer: managed_identity.tokens.bearer(logs_ingestion::AUDIENCE, &clock),
                rule_id: RULE_ID.to_owned(),
                table: TABLE.trim_end_matches("_CL").to_owned(),
                workspace: WORKSPACE.to_owned(),
                key: WORKSPACE_KEY.to_owned().into(),
            },
        )
        .await?;
        let hub = EventHub::reached_by(
            reach,
            event_hub::Setup {
                clock: clock.clone(),
                bearer: managed_identity.tokens.bearer(hub_sink::AUDIENCE, &clock),
                hub: HUB.to_owned(),
                policy: SasPolicy {
                    name: "send".to_owned(),
                    key: HUB_KEY.to_owned().into(),
                    whole_namespace: false,
                },
            },
        )
        .await?;
        let bearer = managed_identity.tokens.bearer(MANAGEMENT_AUDIENCE, &clock);
        let directory =
            ResourceGraph::reached_by(reach, clock.clone(), bearer, &monitor.rule()).await?;
        Ok(Self {
            clock,
            entra,
            defender,
            graph,
            monitor,
            hub,
            directory,
            managed_identity,
            listening,
            graph_listening,
        })
    }

    /// Every cloud that has no socket, for [`crate::http::Http::in_process`].
    pub fn servers(&self) -> Servers {
        let Self {
            entra,
            monitor,
            hub,
            directory,
            managed_identity,
            listening,
            graph_listening,
            ..
        } = self;
        let listening = [
            &entra.listening,
            listening,
            graph_listening,
            &monitor.listening,
            &hub.listening,
            &directory.listening,
            &managed_identity.listening,
        ];
        Servers::new(listening.into_iter().filter_map(Listening::server))
    }

    /// What a deployment that uses these clouds has as its app settings.
    pub fn settings(&self) -> Vec<(String, String)> {
        let identity = self.managed_identity.endpoint();
        [
            ("FunctionConfigMDETenantId", TENANT.to_string()),
            ("FunctionConfigMDEClientAppId", CLIENT.to_string()),
            ("FunctionConfigIdentityAuthority", self.entra.url.to_string()),
            ("FunctionConfigDefenderEndpoint", self.listening.url.to_string()),
            ("FunctionConfigGraphEndpoint", self.graph_listening.url.to_string()),
            ("FunctionConfigLogsIngestionEndpoint", self.monitor.url().to_string()),
            ("FunctionConfigLogsIngestionRuleId", RULE_ID.to_owned()),
            ("FunctionConfigLogAnalyticsEndpoint", self.monitor.url().to_string()),
            ("FunctionConfigLogAnalyticsWorkspaceId", WORKSPACE.to_owned()),
            ("FunctionConfigLogAnalyticsKeyValue", WORKSPACE_KEY.to_owned()),
            ("FunctionConfigEventHubNamespace", "sandbox".to_owned()),
            ("FunctionConfigEventHubName", HUB.to_owned()),
            (
                "FunctionConfigEventHubEndpoint",
                self.hub.hub(EventHubAuth::Identity).endpoint.to_string(),
            ),
            ("FunctionConfigManagementEndpoint", self.directory.url().to_string()),
            ("FunctionConfigDeviceGroups", GROUP.to_owned()),
            ("FunctionConfigTrustName", "RXX".to_owned()),
            ("FunctionConfigSessionKey", SESSION_KEY.to_owned()),
            ("IDENTITY_ENDPOINT", identity.endpoint.to_string()),
            ("IDENTITY_HEADER", identity.header.expose_secret().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Every secret there is, for a search that must find none of them.
    pub fn secrets(&self) -> Vec<SecretString> {
        let own = [WORKSPACE_KEY, SESSION_KEY, HUB_KEY].map(str::to_owned);
        let header = self.managed_identity.endpoint().header;
        let tokens = self.entra.tokens.secrets();
        let apps_own = self.managed_identity.tokens.secrets();
        own.into_iter()
            .chain(tokens)
            .chain(apps_own)
            .map(SecretString::from)
            .chain([header])
            .collect()
    }
}

//! This machine's clock, against the `Date` every server answers with.
//!
//! Any answer will do, so nothing is asked for and no token is sent.

use futures_util::future::join_all;
use url::Url;

use super::Patient;
use crate::config::{HeartbeatTarget, SourceKind, Target};
use crate::domain::check::Check;
use crate::domain::judge::{self, Skew};
use crate::http::Broken;

pub(super) async fn check(patient: &Patient) -> Check {
    let ask = |server| patient.within(ask(patient, server), || Ok(()));
    let silent = join_all(servers(patient).into_iter().map(ask)).await;
    let silent = silent.iter().filter(|answer| answer.is_err()).count();
    tracing::debug!(silent, "servers were asked for their time");
    let now = patient.clock.now();
    let skews: Vec<_> =
        patient.http.dates.now().into_iter().map(|date| Skew::between(now, date.into())).collect();
    judge::clock(&skews)
}

async fn ask(patient: &Patient, server: Url) -> Result<(), Broken> {
    // Its date is noted with every answer.
    patient.http.send(patient.http.client.get(server)).await.map(drop)
}

/// Every server a run talks to, each once.
fn servers(patient: &Patient) -> Vec<Url> {
    let parts = &patient.parts;
    let identity = parts.identity.iter().map(|identity| &identity.authority);
    let source = parts.source.iter().map(|source| match source.kind {
        SourceKind::Defender => &source.defender,
        SourceKind::Graph => &source.graph,
    });
    let targets = parts.targets.iter().map(|target| match target {
        Target::LogsIngestion(rule) => &rule.endpoint,
        Target::DataCollector(workspace) => &workspace.endpoint,
        Target::EventHub(hub) => &hub.endpoint,
    });
    let heartbeats = parts.heartbeats.iter().map(|target| match target {
        HeartbeatTarget::LogsIngestion(rule) => &rule.endpoint,
        HeartbeatTarget::DataCollector(workspace) => &workspace.endpoint,
    });
    let account = parts.storage.iter().filter_map(|storage| storage.account.as_ref());
    let state = account.map(|account| &account.tables);
    let mut servers: Vec<_> =
        identity.chain(source).chain(targets).chain(heartbeats).chain(state).cloned().collect();
    servers.sort();
    servers.dedup();
    servers
}

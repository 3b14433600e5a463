//! This machine's clock, against the `Date` every server answers with.
//!
//! Any answer will do, so nothing is asked for and no token is sent.

use futures_util::future::join_all;
use url::Url;

use super::Patient;
use crate::config::{HeartbeatTarget, SourceKind, Target};
use crate::domain::check::Check;
use crate::domain::judge::{self, Skew};

/// Asks every server for anything at all; each answer's date is noted.
pub(super) async fn ask(patient: &Patient) {
    let ask = |server| patient.http.send(patient.http.client.get(server));
    let asked = servers(patient).into_iter().map(|server| async move {
        // One that does not answer says so in a line of its own.
        patient.within(async { ask(server).await.is_ok() }, || false).await
    });
    let answered = join_all(asked).await.into_iter().filter(|answered| *answered).count();
    tracing::debug!(answered, "servers were asked for their time");
}

/// What came with every answer so far, those to other questions too.
pub(super) fn check(patient: &Patient) -> Check {
    let now = patient.clock.now();
    let dates = patient.http.dates.now();
    let skews: Vec<_> = dates.into_iter().map(|date| Skew::between(now, date.into())).collect();
    judge::clock(&skews)
}

/// Every server a run talks to, each once.
fn servers(patient: &Patient) -> Vec<Url> {
    let parts = &patient.parts;
    let identity = parts.identity.iter().map(|identity| &identity.authority);
    let source = parts.source.iter().map(|source| match source.kind {
        SourceKind::Defender => &source.defender,
        SourceKind::Graph => &source.graph,
    });
    let targets = parts.targets.iter().filter_map(|target| match target {
        Target::LogsIngestion(rule) => Some(&rule.endpoint),
        Target::DataCollector(workspace) => Some(&workspace.endpoint),
        Target::EventHub(hub) => Some(&hub.endpoint),
        Target::StorageBlob(files) => Some(&files.service),
        Target::S3(files) => files.endpoint.as_ref(),
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

//! This machine's clock, against the `Date` every server answers with.
//!
//! Any answer will do, so nothing is asked for and no token is sent.
//! <https://www.rfc-editor.org/rfc/rfc9110#section-6.6.1>

use futures_util::future::join_all;
use url::Url;

use super::Patient;
use crate::config::{HeartbeatTarget, SourceKind, Target};
use crate::domain::check::Check;
use crate::domain::judge::{self, Skew};
use crate::http::date;

pub(super) async fn check(patient: &Patient) -> Check {
    let skews = join_all(servers(patient).into_iter().map(|server| skew(patient, server))).await;
    let skews: Vec<_> = skews.into_iter().flatten().collect();
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

async fn skew(patient: &Patient, server: Url) -> Option<Skew> {
    let ask = async {
        let answer = patient.http.client.get(server).send().await.ok()?;
        let theirs = date(answer.headers())?;
        Some(Skew::between(patient.clock.now(), theirs.into()))
    };
    patient.within(ask, || None).await
}

//! Everything a deployment leaves behind, as bytes, for searches that must find
//! nothing.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use defender_alert_export::clock::Clock;
use defender_alert_export::config::{LogOutput, LoggingConfig};
use defender_alert_export::telemetry::{Lines, NotAppended, Pump, Streams, Telemetry};
use flate2::read::GzDecoder;
use memchr::memmem;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::guard::Written;
use crate::world::World;

/// Listens to every line of this test at level 1.
pub(crate) struct Traces {
    written: Written,
    telemetry: Telemetry,
    _second: tracing::Dispatch,
    _guard: DefaultGuard,
}

impl Traces {
    pub(crate) fn listen() -> Self {
        Self::listen_by(LogOutput::Logging)
    }

    pub(crate) fn listen_by(output: LogOutput) -> Self {
        let written = Written::default();
        let streams = Streams::new(written.clone(), written.clone());
        let (lines, telemetry) =
            Lines::new(LoggingConfig { output, level: 1 }, streams, Clock::System);
        // With one subscriber alone, other threads' tests decide what is logged.
        let second = tracing::Dispatch::new(Registry::default());
        let guard = tracing::subscriber::set_default(Registry::default().with(lines));
        Self { written, telemetry, _second: second, _guard: guard }
    }

    /// Lines go to the world's container, where the log goes there.
    pub(crate) fn append_to(&self, world: &World) -> Option<Pump> {
        let blobs = world.app().blobs.clone();
        self.telemetry.append_with(std::sync::Arc::new(move |name, lines| {
            let blobs = blobs.clone();
            Box::pin(async move {
                blobs.append(&name, lines).await.map_err(|error| NotAppended(Box::new(error)))
            })
        }))
    }

    pub(crate) async fn flush(&self) {
        self.telemetry.flush().await;
    }

    /// Log, state, container, and every body that a sink was sent.
    pub(crate) fn of(&self, world: &mut World) -> Vec<Vec<u8>> {
        world.stop();
        let mut all = vec![self.written.0.lock().unwrap().clone()];
        // There is none where all is kept in a storage account.
        if world.folder.path().exists() {
            read_all(world.folder.path(), &mut all);
        }
        for body in world.clouds.monitor.tables.bodies() {
            let mut plain = Vec::new();
            if GzDecoder::new(&body[..]).read_to_end(&mut plain).is_ok() {
                all.push(plain);
            }
            all.push(body.to_vec());
        }
        all.extend(world.clouds.hub.bodies().iter().map(|body| body.to_vec()));
        all
    }
}

fn read_all(folder: &Path, all: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_all(&path, all);
        } else {
            all.push(fs::read(path).unwrap());
        }
    }
}

/// Whether anything of it contains `text`.
pub(crate) fn hold(all: &[Vec<u8>], text: &[u8]) -> bool {
    all.iter().any(|bytes| memmem::find(bytes, text).is_some())
}

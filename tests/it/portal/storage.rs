//! The page while storage fails or is silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use defender_alert_export::app::{self, App};
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::advice::Advice;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::portal::{Deployment, Facts, Invitation, Order, Portal, Refusal};
use defender_alert_export::sandbox::clouds::Clouds;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::code;
use super::visit::{Browser, World};
use crate::handler::{Handler, network, runs_ending};
use crate::world::Folder;

/// The app, whose sign-in cannot be read for a while.
struct Hiccup {
    app: App,
    failing: AtomicBool,
}

#[async_trait]
impl Deployment for Hiccup {
    async fn look(&self) -> Facts {
        let mut facts = self.app.look().await;
        if let Some(export) = facts.export.as_mut().filter(|_| self.failing.load(Ordering::SeqCst))
        {
            export.sign_in = Err(Advice::new("It could not be read.", "Wait."));
            export.invitation = None;
        }
        facts
    }

    async fn act(&self, order: Order, person: &str) -> Result<Option<Invitation>, Refusal> {
        self.app.act(order, person).await
    }
}

#[tokio::test]
async fn a_moment_without_storage_does_not_take_the_code_from_whoever_enters_it() {
    let world = World::new().await;
    let app = world.app.clone();
    let form_key = app.form_key.clone();
    let durable = app.durable.clone();
    let hiccup = Arc::new(Hiccup { app, failing: AtomicBool::new(false) });
    let deployment: Arc<dyn Deployment> = hiccup.clone();
    let portal = Portal::new(deployment, form_key);
    let (runs, _) = runs_ending(Status::Ok);
    let handler = Handler::serve(app::router(runs.clone(), portal, durable), runs).await;
    let url = format!("{}/api/portal", handler.url);
    let mut person = Browser { url, ..world.browser() };

    person.press("sign-in").await;
    let before = person.look().await;
    hiccup.failing.store(true, Ordering::SeqCst);
    let page = person.look().await;
    assert!(page.contains("It could not be read.") && !page.contains(code(&before)), "{page}");
    hiccup.failing.store(false, Ordering::SeqCst);
    assert_eq!(code(&person.look().await), code(&before));
}

#[tokio::test(start_paused = true)]
async fn storage_that_is_silent_is_told_of_in_words_after_twenty_seconds() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let nowhere = format!("http://{}/trust", silent.local_addr().unwrap());
    let account = format!(
        "AccountName=trust;AccountKey=a2V5;TableEndpoint={nowhere};BlobEndpoint={nowhere};"
    );
    let clouds = Clouds::start(Clock::System).await.unwrap();
    let settings = clouds.settings().into_iter();
    let settings = settings.chain([("AzureWebJobsStorage".to_owned(), account)]);
    let config = Config::load(&Vars::map(settings)).unwrap();
    let folder = Folder::new();
    let app = App::build(config, Clock::System, network(), Some(folder.path())).unwrap();
    let asked = Instant::now();
    let export = app.look().await.export.unwrap();
    assert_eq!(asked.elapsed().as_secs(), 20);
    for (said, what) in [
        (export.sign_in.err(), "The sign-in could not be read within 20 seconds."),
        (export.checkpoint.err(), "How far the export is could not be read within 20 seconds."),
        (export.backfill.err(), "The backfill could not be read within 20 seconds."),
        (export.runs.err(), "The last runs could not be read within 20 seconds."),
    ] {
        let said = said.unwrap();
        assert_eq!(said.message, what);
        assert!(said.next_step.contains("storage account"), "{said:?}");
    }
}

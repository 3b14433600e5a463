//! The page while storage fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use defender_alert_export::app::{self, App};
use defender_alert_export::domain::advice::Advice;
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::portal::{Deployment, Facts, Invitation, Order, Portal, Refusal};

use super::code;
use super::visit::{Browser, World};
use crate::handler::{Handler, runs_ending};

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

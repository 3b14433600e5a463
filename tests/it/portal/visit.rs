//! A deployment with its page, and people who visit it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use defender_alert_export::app::{self, App};
use defender_alert_export::clock::Clock;
use defender_alert_export::config::{Config, Vars};
use defender_alert_export::domain::heartbeat::Status;
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::sandbox::clouds::{ACCOUNT, ACCOUNT_ID, Clouds};
use defender_alert_export::sandbox::sample;
use reqwest::{Response, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use crate::handler::{Handler, network, runs_ending};

/// A folder that goes with its test.
struct Dir(PathBuf);

/// The clouds, the app on them, and the page it serves.
pub(super) struct World {
    pub(super) clouds: Clouds,
    dir: Dir,
    settings: Vec<(String, String)>,
    pub(super) app: App,
    handler: Handler,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(super) async fn with(extra: &[(&str, &str)]) -> Self {
        let clock = Clock::stopped_at("2026-11-21T10:00:00Z".parse().unwrap());
        let clouds = Clouds::start(clock).await.unwrap();
        let dir = Dir(std::env::temp_dir().join(format!("portal-{}", Uuid::new_v4())));
        let mut settings = clouds.settings();
        settings.extend(extra.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let (app, handler) = serve(&clouds, &settings, &dir.0).await;
        Self { clouds, dir, settings, app, handler }
    }

    /// The process is gone, and another has its place.
    pub(super) async fn killed(self) -> Self {
        let Self { clouds, dir, settings, app, handler } = self;
        drop(app);
        handler.stop.send(()).unwrap();
        handler.server.await.unwrap();
        let (app, handler) = serve(&clouds, &settings, &dir.0).await;
        Self { clouds, dir, settings, app, handler }
    }

    pub(super) fn browser(&self) -> Browser {
        let url = format!("{}/api/portal", self.handler.url);
        let client = self.handler.client.clone();
        Browser { client, url, cookies: BTreeMap::new(), headers: Vec::new() }
    }

    pub(super) fn pass(&self, seconds: u64) {
        self.clouds.clock.advance(Duration::from_secs(seconds));
    }

    pub(super) async fn run(&self) {
        self.app.exporter.run(Uuid::new_v4()).await;
    }

    pub(super) async fn signed_in(self) -> Self {
        self.app.identity.start("test").await.unwrap();
        self.clouds.entra.approve(ACCOUNT, ACCOUNT_ID);
        self.pass(5);
        self.app.identity.poll().await.unwrap();
        self
    }

    pub(super) fn add(&self, number: u64, group: &str) {
        let seen: Timestamp = self.clouds.clock.now() - Duration::from_mins(3);
        self.clouds.defender.add([sample::alert(number, group, seen)]);
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn serve(clouds: &Clouds, settings: &[(String, String)], dir: &Path) -> (App, Handler) {
    let config = Config::load(&Vars::map(settings.iter().cloned())).unwrap();
    let app = App::build(config, clouds.clock.clone(), network(), Some(dir)).unwrap();
    let (runs, _) = runs_ending(Status::Ok);
    let handler =
        Handler::serve(app::router(runs.clone(), app.portal(), app.durable.clone()), runs).await;
    (app, handler)
}

/// One person's browser: it keeps cookies and follows what the page says.
pub(super) struct Browser {
    pub(super) client: reqwest::Client,
    pub(super) url: String,
    pub(super) cookies: BTreeMap<String, String>,
    pub(super) headers: Vec<(&'static str, &'static str)>,
}

impl Browser {
    pub(super) async fn send(&mut self, request: reqwest::RequestBuilder) -> Response {
        let cookies: Vec<_> = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let mut request =
            request.header("cookie", cookies.join("; ")).header("connection", "close");
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        for line in answer.headers().get_all("set-cookie") {
            let line = line.to_str().unwrap();
            assert!(line.contains("; Path=/api/portal; HttpOnly; SameSite=Strict"), "{line}");
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    pub(super) async fn get(&mut self, rest: &str) -> Response {
        let request = self.client.get(format!("{}{rest}", self.url));
        self.send(request).await
    }

    pub(super) async fn look(&mut self) -> String {
        let answer = self.get("").await;
        assert_eq!(answer.status(), StatusCode::OK);
        text(answer).await
    }

    /// Presses a button as it stands on the page.
    pub(super) async fn press(&mut self, button: &str) -> Response {
        self.fill_in(button, &[]).await
    }

    /// The same with what is typed into the fields beside it.
    pub(super) async fn fill_in(&mut self, button: &str, typed: &[(&str, &str)]) -> Response {
        let page = self.look().await;
        let form = page.split("<form ").find(|form| form.contains(&format!("press-{button}\"")));
        let form = form.unwrap_or_else(|| panic!("no button {button} in {page}"));
        let action = between(form, "action=\"", "\"").replace("&amp;", "&");
        let mut fields = vec![("token", between(form, "name=\"token\" value=\"", "\""))];
        fields.extend_from_slice(typed);
        let root = self.url.strip_suffix("/api/portal").unwrap();
        let request = self.client.post(format!("{root}{action}")).form(&fields);
        self.send(request).await
    }
}

pub(super) async fn text(answer: Response) -> String {
    String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap()
}

pub(super) async fn json(answer: Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let rest = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}")).1;
    rest.split_once(after).unwrap().0
}

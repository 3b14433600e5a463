//! A person signs in once; from then on the export stays signed in.

use std::num::NonZeroU32;
use std::time::Duration;

use defender_alert_export::clock::Clock;
use defender_alert_export::config::{IdentityConfig, SessionStoreKind, SignInPrompt};
use defender_alert_export::domain::sign_in::{Account, Class};
use defender_alert_export::domain::standing::{Lifetime, Standing, Working};
use defender_alert_export::domain::timestamp::Timestamp;
use defender_alert_export::http::retry::RetryPolicy;
use defender_alert_export::http::{self, Http};
use defender_alert_export::identity::{
    AccessToken, Code, DEFENDER_AUDIENCE, Demand, Identity, IdentityError, Place,
};
use defender_alert_export::sandbox::entra::{AadstsError, Entra};
use defender_alert_export::sandbox::script::Fault;
use defender_alert_export::store::{Local, Store};
use secrecy::ExposeSecret as _;
use uuid::Uuid;

pub(crate) const ONE: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
pub(crate) const TWO: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";
pub(crate) const EXPORT: &str = "export.rxx@example.nhs.uk";
pub(crate) const OID: Uuid = Uuid::from_u128(0x1111);
const GRAPH: &str = "https://graph.microsoft.com";

/// An Entra, a store, and the settings that fit them.
pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) entra: Entra,
    pub(crate) store: Store,
    pub(crate) place: Place,
    pub(crate) config: IdentityConfig,
    http: Http,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Clock::stopped_at("2026-11-21T10:00:00Z".parse().unwrap());
        let (tenant, client) = (Uuid::from_u128(0xaaaa), Uuid::from_u128(0xbbbb));
        let entra = Entra::start(clock.clone(), tenant, client).await.unwrap();
        let config = IdentityConfig {
            tenant,
            client,
            authority: entra.url.clone(),
            session_key: ONE.into(),
            session_key_previous: None,
            session_store: SessionStoreKind::Table,
            prompt: SignInPrompt::Portal,
        };
        let retry = RetryPolicy {
            attempts: NonZeroU32::new(3).unwrap(),
            base: Duration::from_millis(1),
            cap: Duration::from_millis(1),
            budget: Duration::from_secs(5),
            jitter: false,
        };
        let http = Http::new(http::client().unwrap(), retry);
        let store = Store::Local(Local::in_memory().unwrap());
        let place = Place::Row(store.clone());
        Self { clock, entra, store, place, config, http }
    }

    /// As another instance, or after a restart: nothing but the store is shared.
    pub(crate) fn identity(&self) -> Identity {
        self.identity_with(&self.config, DEFENDER_AUDIENCE)
    }

    pub(crate) fn identity_with(
        &self,
        config: &IdentityConfig,
        audience: &'static str,
    ) -> Identity {
        let (http, clock) = (self.http.clone(), self.clock.clone());
        Identity::new(http, clock, config, audience, self.place.clone()).unwrap()
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub(crate) fn requests(&self) -> usize {
        self.entra.script.seen().len()
    }

    pub(crate) fn opens_defender(&self, token: &AccessToken) -> bool {
        self.entra.tokens.valid_access_token(token.secret.expose_secret(), DEFENDER_AUDIENCE)
    }

    pub(crate) async fn start(&self) -> Code {
        self.identity().start("jane").await.unwrap()
    }

    pub(crate) async fn poll(&self) -> Standing {
        self.identity().poll().await.unwrap()
    }

    pub(crate) async fn token(&self) -> Result<AccessToken, IdentityError> {
        self.identity().access_token(Demand::Any).await
    }

    pub(crate) async fn sign_in_as(&self, username: &str, oid: Uuid) -> Working {
        self.start().await;
        assert!(self.entra.approve(username, oid));
        self.pass(5);
        let standing = self.poll().await;
        standing.working().cloned().unwrap_or_else(|| panic!("{standing:?}"))
    }

    pub(crate) async fn signed_in() -> Self {
        let world = Self::new().await;
        world.sign_in_as(EXPORT, OID).await;
        world
    }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_person_signs_in_with_a_code_and_the_export_gets_a_token() {
    let world = World::new().await;
    assert_eq!(world.poll().await, Standing::SignedOut);
    let code = world.start().await;
    assert_eq!(code.verification_uri, format!("{}devicelogin", world.entra.url));
    assert_eq!(code.expires_at, at("2026-11-21T10:15:00Z"));

    world.pass(5);
    let waiting = Standing::Pending {
        expires_at: at("2026-11-21T10:15:00Z"),
        next_poll_at: at("2026-11-21T10:00:10Z"),
        started_by: "jane".to_owned(),
        meanwhile: None,
    };
    assert_eq!(world.poll().await, waiting);
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));

    world.entra.approve(EXPORT, OID);
    world.pass(5);
    let expected = Standing::SignedIn(Working {
        account: Account {
            username: EXPORT.to_owned(),
            name: Some("Alert export".to_owned()),
            oid: OID,
            tenant: world.config.tenant,
        },
        since: at("2026-11-21T10:00:10Z"),
        renewed_at: at("2026-11-21T10:00:10Z"),
        idle_days: 0,
        lifetime: Lifetime::Good,
        back_off_until: None,
        replaced: None,
        failed_attempt: None,
    });
    assert_eq!(world.poll().await, expected);
    let token = world.token().await.unwrap();
    assert!(world.opens_defender(&token) && token.stored);
    assert_eq!(token.expires_at, at("2026-11-21T11:15:10Z"));
    let scopes: Vec<_> = world.entra.asked().into_iter().map(|asked| asked.scope).collect();
    assert_eq!(
        scopes[0],
        "https://api.securitycenter.microsoft.com/.default offline_access openid profile"
    );
}

#[tokio::test]
async fn a_code_is_not_polled_before_its_time_by_anybody() {
    let world = World::new().await;
    world.start().await;
    world.pass(4);
    world.poll().await;
    assert_eq!(world.requests(), 1, "the request for the code");
    world.pass(1);
    let (here, there) = (world.identity(), world.identity());
    let (here, there) = tokio::join!(here.poll(), there.poll());
    assert!(here.is_ok() && there.is_ok());
    assert_eq!(world.requests(), 2);
    world.poll().await;
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn a_poll_under_way_keeps_others_from_polling() {
    let world = World::new().await;
    world.start().await;
    world.entra.approve(EXPORT, OID);
    world.pass(5);
    world.entra.script.push([Fault::Delay(Duration::from_millis(300))]);
    let (slow, other) = (world.identity(), world.identity());
    let (slow, other) = tokio::join!(slow.poll(), async {
        // Until the first has claimed the poll: the next one is then due later.
        let now = world.clock.now();
        while !matches!(other.standing().await, Ok(Standing::Pending { next_poll_at, .. }) if next_poll_at > now)
        {
            tokio::task::yield_now().await;
        }
        world.pass(6);
        other.poll().await
    });
    assert!(matches!(other.unwrap(), Standing::Pending { .. }));
    assert!(matches!(slow.unwrap(), Standing::SignedIn(_)));
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn told_to_slow_down_it_polls_five_seconds_less_often() {
    let world = World::new().await;
    world.start().await;
    world.pass(5);
    world.entra.fail_with(AadstsError { error: "slow_down".to_owned(), ..AadstsError::default() });
    let Standing::Pending { next_poll_at, .. } = world.poll().await else { panic!("pending") };
    assert_eq!(next_poll_at, at("2026-11-21T10:00:15Z"));
    world.pass(10);
    let Standing::Pending { next_poll_at, .. } = world.poll().await else { panic!("pending") };
    assert_eq!(next_poll_at, at("2026-11-21T10:00:25Z"));
}

#[tokio::test]
async fn trouble_in_between_keeps_the_same_code() {
    let html = |status| Fault::Answer { status, headers: vec![], body: "<html>".to_owned() };
    let troubles = [
        (Fault::throttled(40), 40),
        (Fault::status(503), 10),
        (html(200), 10),
        (html(400), 10),
        (Fault::LoseAnswer, 10),
        (Fault::CutAfter(9), 10),
    ];
    for (trouble, wait) in troubles {
        let world = World::new().await;
        world.start().await;
        world.pass(5);
        world.entra.script.push([trouble.clone()]);
        let Standing::Pending { next_poll_at, .. } = world.poll().await else { panic!("pending") };
        assert_eq!(next_poll_at, at("2026-11-21T10:00:05Z") + Duration::from_secs(wait));
        assert_eq!(world.requests(), 2, "one request for one poll: {trouble:?}");
        world.entra.approve(EXPORT, OID);
        world.pass(wait);
        assert!(matches!(world.poll().await, Standing::SignedIn(_)), "{trouble:?}");
    }
}

#[tokio::test]
async fn a_code_nobody_used_ends_without_asking_again() {
    let world = World::new().await;
    world.start().await;
    world.pass(900);
    let Standing::Refused { class, .. } = world.poll().await else { panic!("refused") };
    assert_eq!(class, Class::CodeExpired);
    assert_eq!(world.requests(), 1);
    world.start().await;
}

#[tokio::test]
async fn a_second_start_is_told_of_the_first_but_not_its_code() {
    let world = World::new().await;
    let code = world.start().await;
    let error = world.identity().start("mallory").await.unwrap_err();
    assert!(matches!(error, IdentityError::UnderWay { .. }));
    let said = format!("{error} {error:?} {:?}", error.advice());
    assert!(!said.contains(code.user_code.expose_secret()));
    assert_eq!(world.requests(), 1);
    assert_eq!(world.identity().cancel().await.unwrap(), Standing::SignedOut);
    world.start().await;
}

#[tokio::test]
async fn two_starts_at_once_leave_one_code() {
    let world = World::new().await;
    let (here, there) = (world.identity(), world.identity());
    let both = tokio::join!(here.start("jane"), there.start("john"));
    let started = [both.0.is_ok(), both.1.is_ok()];
    assert_eq!(started.iter().filter(|started| **started).count(), 1);
}

#[tokio::test]
async fn a_code_cancelled_while_it_was_used_signs_nobody_in() {
    let world = World::new().await;
    world.start().await;
    world.entra.approve(EXPORT, OID);
    world.pass(5);
    world.entra.script.push([Fault::Delay(Duration::from_millis(30))]);
    let (instance, person) = (world.identity(), world.identity());
    let (polled, ()) = tokio::join!(instance.poll(), async {
        tokio::task::yield_now().await;
        person.sign_out().await.unwrap();
    });
    assert_eq!(polled.unwrap(), Standing::SignedOut);
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
}

#[tokio::test]
async fn a_token_is_renewed_five_minutes_early_and_shared_by_all_instances() {
    let world = World::signed_in().await;
    let first = world.token().await.unwrap();
    world.pass(75 * 60 - 301);
    let same = world.token().await.unwrap();
    assert_eq!(same.secret.expose_secret(), first.secret.expose_secret());
    world.pass(1);
    let renewed = world.token().await.unwrap();
    assert_ne!(renewed.secret.expose_secret(), first.secret.expose_secret());
    assert!(world.opens_defender(&renewed));
    let requests = world.requests();
    let elsewhere = world.token().await.unwrap();
    assert_eq!(elsewhere.secret.expose_secret(), renewed.secret.expose_secret());
    assert_eq!(world.requests(), requests);
}

#[tokio::test]
async fn two_instances_may_renew_at_once() {
    let world = World::signed_in().await;
    world.pass(75 * 60);
    let (here, there) = (world.identity(), world.identity());
    let (here, there) =
        tokio::join!(here.access_token(Demand::Any), there.access_token(Demand::Any));
    let (here, there) = (here.unwrap(), there.unwrap());
    assert!(world.opens_defender(&here) && world.opens_defender(&there));
    let renewals = world.entra.asked().into_iter();
    assert_eq!(renewals.filter(|asked| asked.grant_type == "refresh_token").count(), 2);
    assert_eq!(here.secret.expose_secret(), there.secret.expose_secret(), "what is stored counts");
    let stored = world.token().await.unwrap();
    assert_eq!(stored.secret.expose_secret(), here.secret.expose_secret());
}

#[tokio::test]
async fn a_token_refused_by_the_api_is_renewed_with_the_claims_it_asked_for() {
    let world = World::signed_in().await;
    let first = world.token().await.unwrap();
    world.entra.tokens.void_access_tokens();
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#.to_owned();
    let demand = Demand::Renewed { claims: Some(claims.clone()) };
    let renewed = world.identity().access_token(demand).await.unwrap();
    assert!(world.opens_defender(&renewed) && !world.opens_defender(&first));
    assert_eq!(world.entra.asked().last().unwrap().claims, Some(claims));
    let next = world.token().await.unwrap();
    assert_eq!(next.secret.expose_secret(), renewed.secret.expose_secret());
}

#[tokio::test]
async fn a_token_refused_by_the_api_is_renewed_once_by_each_instance_that_noticed() {
    let world = World::signed_in().await;
    world.entra.tokens.void_access_tokens();
    let forced = || Demand::Renewed { claims: None };
    let (here, there) = (world.identity(), world.identity());
    let (here, there) = tokio::join!(here.access_token(forced()), there.access_token(forced()));
    assert!(world.opens_defender(&here.unwrap()) && world.opens_defender(&there.unwrap()));
    let renewals = world.entra.asked().into_iter();
    assert_eq!(renewals.filter(|asked| asked.grant_type == "refresh_token").count(), 2);
}

#[tokio::test]
async fn a_token_for_another_api_is_never_used() {
    let world = World::signed_in().await;
    let graph = world.identity_with(&world.config, GRAPH);
    let token = graph.access_token(Demand::Any).await.unwrap();
    assert!(world.entra.tokens.valid_access_token(token.secret.expose_secret(), GRAPH));
    assert!(!world.opens_defender(&token));
}

#[tokio::test]
async fn another_account_than_before_is_pointed_out() {
    let world = World::signed_in().await;
    let again = world.sign_in_as("renamed@example.nhs.uk", OID).await;
    assert_eq!(again.replaced, None, "the same account by another name");
    world.identity().sign_out().await.unwrap();
    let other = world.sign_in_as("mallory@example.nhs.uk", Uuid::from_u128(0x2222)).await;
    assert_eq!(other.replaced.unwrap().oid, OID);
}

#[tokio::test]
async fn signing_in_anew_does_not_stop_the_export_meanwhile() {
    let world = World::signed_in().await;
    world.start().await;
    world.pass(75 * 60);
    let token = world.token().await.unwrap();
    assert!(world.opens_defender(&token));
    let Standing::SignedIn(working) = world.poll().await else { panic!("still signed in") };
    assert!(working.failed_attempt.unwrap().message.contains("not used in time"));
}

#[tokio::test]
async fn a_code_that_nobody_used_is_told_of_for_a_day_beside_the_sign_in_that_works() {
    let world = World::signed_in().await;
    world.start().await;
    world.pass(20 * 60);
    let told = async || {
        world.token().await.unwrap();
        let Standing::SignedIn(working) = world.poll().await else { panic!("still signed in") };
        working.failed_attempt.is_some()
    };
    assert!(told().await);
    world.pass(24 * 60 * 60 - 60);
    assert!(told().await);
    world.pass(61);
    assert!(!told().await);
}

#[tokio::test]
async fn a_sign_in_not_used_for_long_is_warned_of_before_it_ends() {
    let world = World::signed_in().await;
    let day = 24 * 60 * 60;
    world.pass(60 * day);
    let Standing::SignedIn(working) = world.poll().await else { panic!("signed in") };
    assert_eq!(working.idle_days, 60);
    assert_eq!(working.lifetime, Lifetime::Expiring(at("2027-02-19T10:00:05Z")));
    world.pass(30 * day);
    let Err(IdentityError::SignInNeeded(advice)) = world.token().await else { panic!("ended") };
    assert!(advice.message.contains("AADSTS700082"), "{}", advice.message);
}

#[tokio::test]
async fn signing_out_forgets_every_token() {
    let world = World::signed_in().await;
    world.identity().sign_out().await.unwrap();
    assert_eq!(world.poll().await, Standing::SignedOut);
    assert!(matches!(world.token().await, Err(IdentityError::SignInNeeded(_))));
}

#[tokio::test]
async fn a_sign_in_that_cannot_be_stored_serves_this_run_and_says_so() {
    let world = World::signed_in().await;
    world.pass(75 * 60);
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":3600,"access_token":"{}","refresh_token":"{}"}}"#,
        "a".repeat(32_000),
        "r".repeat(33_400),
    );
    world.entra.script.push([Fault::Answer { status: 200, headers: vec![], body }]);
    let identity = world.identity();
    let token = identity.access_token(Demand::Any).await.unwrap();
    assert_eq!((token.secret.expose_secret().len(), token.stored), (32_000, false));
    let requests = world.requests();
    let again = identity.access_token(Demand::Any).await.unwrap();
    assert_eq!((again.secret.expose_secret().len(), again.stored), (32_000, false));
    assert_eq!(world.requests(), requests, "one renewal is enough for a run");
    let next_run = world.token().await.unwrap();
    assert!(world.opens_defender(&next_run) && next_run.stored, "the old refresh token works");
}

#[tokio::test]
async fn the_embedded_entra_is_as_strict_as_the_real_one() {
    let world = World::new().await;
    let tenant = world.config.tenant;
    let client = world.config.client.to_string();
    let scope = format!("{DEFENDER_AUDIENCE}/.default openid");
    let good = [("client_id", client.as_str()), ("scope", &scope)];
    let cases = [
        ("devicecode", good.to_vec(), "device_code"),
        ("devicecode", vec![good[0]], "900144"),
        ("devicecode", vec![("client_id", "other"), good[1]], "700016"),
        ("devicecode", vec![good[0], ("scope", "openid")], "70011"),
        ("devicecode", vec![good[0], ("scope", "https://x/.default")], "500011"),
        ("token", vec![good[0], ("grant_type", "password")], "70003"),
        ("token", vec![good[0], ("client_secret", "s")], "700025"),
        (
            "token",
            vec![good[0], good[1], ("grant_type", "refresh_token"), ("refresh_token", "x")],
            "70000",
        ),
    ];
    let post = |url: String| world.http.client.post(format!("{}{url}", world.entra.url));
    for (endpoint, form, expected) in cases {
        let answer = post(format!("{tenant}/oauth2/v2.0/{endpoint}")).form(&form).send().await;
        let answer = answer.unwrap().text().await.unwrap();
        assert!(answer.contains(expected), "{endpoint} {form:?}: {answer}");
    }
    let other = post(format!("{}/oauth2/v2.0/devicecode", Uuid::from_u128(9))).form(&good);
    assert!(other.send().await.unwrap().text().await.unwrap().contains("90002"));
    let json = post(format!("{tenant}/oauth2/v2.0/devicecode")).body("client_id=1");
    assert!(json.send().await.unwrap().text().await.unwrap().contains("900144"));
}

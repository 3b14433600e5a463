//! Reading variables one by one while collecting every fault.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use url::{Host, Url};
use uuid::Uuid;

use crate::domain::advice::counted;

/// Where variables come from.
#[derive(Clone, Debug)]
pub enum Vars {
    /// The process environment.
    Process,
    /// A fixed map, for `demo` and tests.
    Map(BTreeMap<String, String>),
}

impl Vars {
    /// A fixed set. A name given twice keeps its last value; an empty value
    /// counts as not set.
    pub fn map<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::Map(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The value, trimmed; `None` when absent or empty.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match self {
            #[expect(clippy::disallowed_methods, reason = "the one place allowed to ask")]
            Self::Process => std::env::var(name).ok(),
            Self::Map(map) => map.get(name).cloned(),
        }?;
        let value = value.trim();
        (!value.is_empty()).then(|| value.to_owned())
    }

    /// Every variable whose name begins with one of `prefixes`, as
    /// [`Vars::get`] gives them.
    pub(super) fn beginning(&self, prefixes: &[&str]) -> BTreeMap<String, String> {
        let names: Vec<_> = match self {
            #[expect(clippy::disallowed_methods, reason = "the one place allowed to ask")]
            Self::Process => {
                std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
            }
            Self::Map(map) => map.keys().cloned().collect(),
        };
        names
            .into_iter()
            .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .filter_map(|name| self.get(&name).map(|value| (name, value)))
            .collect()
    }
}

/// Every fault found in the settings, not only the first.
#[derive(Clone, Debug, thiserror::Error)]
pub struct ConfigError(pub(super) Vec<Fault>);

/// One setting and what is wrong with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// The setting's name.
    pub name: &'static str,
    /// What is wrong, and what would be right. Never the value.
    pub what: Cow<'static, str>,
}

impl ConfigError {
    /// The faults, in the order the settings are read.
    pub fn faults(&self) -> &[Fault] {
        &self.0
    }

    /// How many settings have faults; one may have several.
    pub fn settings(&self) -> usize {
        self.0.iter().map(|fault| fault.name).collect::<BTreeSet<_>>().len()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to correct", counted(self.settings(), "setting"))?;
        for Fault { name, what } in &self.0 {
            write!(f, "; {name}: {what}")?;
        }
        Ok(())
    }
}

/// The words a setting takes, for people to read.
fn listed<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    words.join(", ")
}

/// Reads settings from [`Vars`], keeping a list of what was wrong.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    vars: &'a Vars,
    faults: Vec<Fault>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(vars: &'a Vars) -> Self {
        Self { vars, faults: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<Fault> {
        self.faults
    }

    pub(super) fn fault(&mut self, name: &'static str, what: &'static str) {
        self.note(name, what.into());
    }

    pub(super) fn note(&mut self, name: &'static str, what: Cow<'static, str>) {
        let fault = Fault { name, what };
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.vars.get(name)
    }

    pub(super) fn required(&mut self, name: &'static str) -> Option<String> {
        let value = self.text(name);
        if value.is_none() {
            self.fault(name, "not set");
        }
        value
    }

    pub(super) fn switch(&mut self, name: &'static str, default: bool) -> bool {
        let Some(text) = self.text(name) else { return default };
        match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => true,
            "false" | "0" | "no" => false,
            _ => {
                self.fault(name, "neither True nor False");
                default
            }
        }
    }

    pub(super) fn number<T>(
        &mut self,
        name: &'static str,
        allowed: RangeInclusive<T>,
        default: T,
    ) -> T
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some(text) = self.text(name) else { return default };
        match text.parse() {
            Ok(number) if allowed.contains(&number) => number,
            Ok(_) | Err(_) => {
                let (least, most) = (allowed.start(), allowed.end());
                self.note(name, format!("not a whole number from {least} to {most}").into());
                default
            }
        }
    }

    /// One of `words`, in any case.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(text) = self.text(name) else { return default };
        match words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text)) {
            Some((_, choice)) => *choice,
            None => {
                self.note(name, format!("not one of {}", listed(words)).into());
                default
            }
        }
    }

    /// One or several of `words`, separated by `;`, in any case; in order and
    /// without repeats.
    pub(super) fn choices<T: Copy + Ord>(
        &mut self,
        name: &'static str,
        words: &[(&str, T)],
        default: T,
    ) -> Vec<T> {
        let Some(text) = self.text(name) else { return vec![default] };
        let find = |part: &str| {
            let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(part.trim()));
            found.map(|(_, choice)| *choice)
        };
        match text.split(';').map(find).collect::<Option<BTreeSet<_>>>() {
            Some(choices) => choices.into_iter().collect(),
            None => {
                let what =
                    format!("not one or several of {}, with `;` between them", listed(words));
                self.note(name, what.into());
                vec![default]
            }
        }
    }

    pub(super) fn required_id(&mut self, name: &'static str) -> Option<Uuid> {
        let text = self.required(name)?;
        let id = Uuid::try_parse(&text).ok();
        if id.is_none() {
            self.fault(name, "not a GUID such as 01234567-89ab-cdef-0123-456789abcdef");
        }
        id
    }

    pub(super) fn required_key(&mut self, name: &'static str) -> Option<SecretString> {
        self.required(name)?;
        self.key(name)
    }

    /// Any text, unless it is a Key Vault reference that stayed one.
    pub(super) fn required_secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.required(name)?;
        self.secret(name).map(SecretString::from)
    }

    /// A key of any length in base64, as portals show them.
    pub(super) fn required_base64(&mut self, name: &'static str) -> Option<SecretString> {
        self.required(name)?;
        let text = self.secret(name)?;
        if STANDARD.decode(&text).is_err() {
            self.fault(
                name,
                "not base64; copy the key from the Azure portal, whole and without spaces",
            );
            return None;
        }
        Some(text.into())
    }

    fn secret(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name)?;
        if text.starts_with("@Microsoft.KeyVault") {
            self.fault(
                name,
                "its Key Vault reference is not resolved. In the first half hour after a deployment: wait, then open the app in the Azure portal, press Pull reference values under Environment variables, then Restart under Overview. Later: first give the app's identity the role Key Vault Secrets User on the vault",
            );
            return None;
        }
        Some(text)
    }

    /// 32 bytes in base64.
    pub(super) fn key(&mut self, name: &'static str) -> Option<SecretString> {
        let text = self.secret(name)?;
        match STANDARD.decode(&text) {
            Ok(bytes) if bytes.len() == 32 => Some(text.into()),
            Ok(_) | Err(_) => {
                self.fault(name, "not 32 bytes in base64");
                None
            }
        }
    }

    /// The setting, or else `default`.
    pub(super) fn endpoint(&mut self, name: &'static str, default: &'static str) -> Option<Url> {
        let text = self.text(name);
        self.base_url(name, text.as_deref().unwrap_or(default))
    }

    /// A base address: https, or http on a loopback host; no query; with a
    /// trailing slash, so that paths can be joined to it.
    pub(super) fn base_url(&mut self, name: &'static str, text: &str) -> Option<Url> {
        let Some(url) = base(text) else {
            self.fault(name, "not an address such as https://name.example");
            return None;
        };
        if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) {
            Some(url)
        } else {
            self.fault(
                name,
                "must begin with https:// (plain http is for loopback addresses only)",
            );
            None
        }
    }

    /// An address the host itself provides, on its own network: http is
    /// allowed, and the path is kept as it is.
    pub(super) fn local_url(&mut self, name: &'static str, text: &str) -> Option<Url> {
        let url = Url::parse(text).ok();
        if url.is_none() {
            self.fault(name, "not an address");
        }
        url
    }
}

fn base(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    url.host()?;
    if url.query().is_some() || url.fragment().is_some() {
        return None;
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

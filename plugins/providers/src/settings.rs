//! What an operator can set, and which settings make no sense. `config.json` holds the defaults,
//! `plugin.json` the schema.
//!
//! The invariant: a request never adds to this. Which addresses the plugin connects to is written here
//! and nowhere else.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use bkg_sdk::Pattern;
use reqwest::Url;
use serde::Deserialize;

use crate::credential::Credential;

/// How many upstreams one plugin asks.
const MOST_UPSTREAMS: usize = 64;
/// How many times a request is sent again, at most.
const MOST_RETRIES: u32 = 5;

/// All settings of the plugin.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ProvidersSettings {
    /// Whom to ask, in the order of their rank where two offer the same name.
    pub(crate) upstreams: Vec<UpstreamSettings>,
    discovery_interval_ms: u64,
}

impl Default for ProvidersSettings {
    fn default() -> Self {
        Self { upstreams: Vec::new(), discovery_interval_ms: 60_000 }
    }
}

/// One upstream, as the operator wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpstreamSettings {
    pub(crate) name: String,
    base_url: String,
    #[serde(default)]
    pub(crate) api_key: Option<Credential>,
    #[serde(default)]
    pub(crate) models: Models,
    /// Further names, each with the id that it stands for.
    #[serde(default)]
    pub(crate) aliases: BTreeMap<String, String>,
    /// Which models embed; by their names where it is not said.
    #[serde(default)]
    pub(crate) embedding_models: Option<Vec<Pattern>>,
    #[serde(default)]
    pub(crate) max_concurrency: Option<u32>,
    #[serde(default)]
    connect_timeout_ms: Option<u64>,
    #[serde(default)]
    first_byte_timeout_ms: Option<u64>,
    #[serde(default)]
    idle_timeout_ms: Option<u64>,
    #[serde(default)]
    retries: Option<u32>,
    /// Whether streams are asked for their usage.
    #[serde(default)]
    usage_chunk: Option<bool>,
    /// What it calls the longest answer; as the client does, where it is not said.
    #[serde(default)]
    pub(crate) max_tokens_name: Option<MaxTokensName>,
}

/// What upstreams call how many tokens an answer may have: the older name, and the one that replaced it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MaxTokensName {
    MaxTokens,
    MaxCompletionTokens,
}

impl MaxTokensName {
    /// The name, and the one that an upstream of this kind does not know.
    pub(crate) fn known_and_unknown(self) -> (&'static str, &'static str) {
        match self {
            Self::MaxTokens => ("max_tokens", "max_completion_tokens"),
            Self::MaxCompletionTokens => ("max_completion_tokens", "max_tokens"),
        }
    }
}

/// Which models an upstream has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Models {
    /// What it lists itself.
    #[default]
    #[serde(skip)]
    Discovered,
    /// These.
    Listed(Vec<String>),
    /// The word for the first.
    Word(Discover),
}

/// The only word that stands in the place of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Discover {
    /// Ask the upstream.
    Discover,
}

impl Models {
    /// The models that the operator listed; `None` where the upstream is asked.
    pub(crate) fn listed(&self) -> Option<&[String]> {
        match self {
            Self::Listed(models) => Some(models),
            Self::Discovered | Self::Word(Discover::Discover) => None,
        }
    }
}

impl ProvidersSettings {
    /// Whether the settings make sense together; what is wrong, where they do not.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.upstreams.len() > MOST_UPSTREAMS {
            return Err(format!(
                "`upstreams` has {} members, at most {MOST_UPSTREAMS} fit",
                self.upstreams.len()
            ));
        }
        if self.discovery_interval_ms < 1_000 {
            return Err("`discoveryIntervalMs` is at least 1000".to_owned());
        }
        let mut names = HashSet::new();
        for upstream in &self.upstreams {
            if !names.insert(upstream.name.as_str()) {
                return Err(format!("two upstreams are named `{}`: name them apart", upstream.name));
            }
            upstream.check().map_err(|problem| format!("the upstream `{}`: {problem}", upstream.name))?;
        }
        Ok(())
    }

    /// How long a list of models is good for.
    pub(crate) fn discovery_interval(&self) -> Duration {
        Duration::from_millis(self.discovery_interval_ms)
    }
}

impl UpstreamSettings {
    fn check(&self) -> Result<(), String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
        if self.name.is_empty() || self.name.len() > 63 || !self.name.bytes().all(fits) {
            return Err("`name` has 1 to 63 of `a`-`z`, `0`-`9`, `_` and `-`".to_owned());
        }
        self.base_url()?;
        for model in self.models.listed().unwrap_or_default() {
            check_model(model)?;
        }
        for (alias, model) in &self.aliases {
            check_model(alias)?;
            check_model(model)?;
        }
        if self.max_concurrency == Some(0) {
            return Err("`maxConcurrency` is at least 1".to_owned());
        }
        if self.retries() > MOST_RETRIES {
            return Err(format!("`retries` is at most {MOST_RETRIES}"));
        }
        for (name, duration) in [
            ("connectTimeoutMs", self.connect_timeout()),
            ("firstByteTimeoutMs", self.first_byte_timeout()),
            ("idleTimeoutMs", self.idle_timeout()),
        ] {
            if duration.is_zero() || duration > Duration::from_secs(3_600) {
                return Err(format!("`{name}` is at least 1 and at most an hour"));
            }
        }
        Ok(())
    }

    /// Where its API begins, with a slash at its end: `/v1/` of a host where no path was given.
    pub(crate) fn base_url(&self) -> Result<Url, String> {
        let mut url =
            Url::parse(&self.base_url).map_err(|error| format!("`baseUrl` is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("`baseUrl` begins with `http://` or `https://`".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("`baseUrl` holds a credential: write it into `apiKey`".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("`baseUrl` has a query or a fragment: leave them out".to_owned());
        }
        let path = match url.path().trim_end_matches('/') {
            "" => "/v1/".to_owned(),
            path => format!("{path}/"),
        };
        url.set_path(&path);
        Ok(url)
    }

    /// How long a connection may take to come about, TLS included.
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms.unwrap_or(5_000))
    }

    /// How long the first byte of an answer may take.
    pub(crate) fn first_byte_timeout(&self) -> Duration {
        Duration::from_millis(self.first_byte_timeout_ms.unwrap_or(300_000))
    }

    /// How long an answer may pause.
    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms.unwrap_or(60_000))
    }

    /// How many times a request is sent again before its first byte.
    pub(crate) fn retries(&self) -> u32 {
        self.retries.unwrap_or(2)
    }

    /// Whether streams are asked for their usage.
    pub(crate) fn asks_for_usage(&self) -> bool {
        self.usage_chunk.unwrap_or(true)
    }

    /// Whether a model embeds, as far as can be told.
    pub(crate) fn embeds(&self, model: &str) -> bool {
        match &self.embedding_models {
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(model)),
            None => model.to_ascii_lowercase().contains("embed"),
        }
    }
}

/// Whether a text can be a model's name.
pub(crate) fn check_model(model: &str) -> Result<(), String> {
    if model.is_empty() || model.len() > 256 || model.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(
            "a model's name has 1 to 256 bytes, and neither spaces nor control characters".to_owned()
        );
    }
    Ok(())
}

//! What is told of a swap: how far it is, why it was ordered, between which versions, and how it ended.
//!
//! Not the swap itself: the supervisor carries it out and writes this. Operators read it in the
//! plugin's object. The invariant: of two swaps, the later one is shown.

use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// A swap as operators see it: the one that is under way, else the last one.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Swap")]
pub struct SwapStory {
    /// Its number, counted for each plugin since the host started.
    pub number: u64,
    /// How far it is, or how it ended.
    pub state: SwapState,
    /// Why it was ordered.
    pub why: String,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The share of requests that the new version is tried with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<ShareStory>,
    /// The version before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<VersionStory>,
    /// The version that is to take over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<VersionStory>,
    /// One sentence on what it waits for, or why it was rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How many requests the version before had not answered when it was ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<u32>,
}

/// How far a swap is, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SwapState {
    /// The new version starts and has to pass the gate; the old one serves.
    Starting,
    /// The new version answers a share of the requests.
    Sharing,
    /// The new version answers everything; the old one is kept and could still come back.
    Holding,
    /// The old version finishes what it has.
    Draining,
    /// The new version serves, and nothing of the old one is left.
    Swapped,
    /// The version before serves; nothing has changed.
    RolledBack,
    /// The plugin was stopped and runs with the new version.
    Restarted,
    /// Another swap took the place of this one before it was decided.
    Superseded,
}

impl SwapState {
    /// Whether which version serves is settled.
    pub fn is_settled(self) -> bool {
        !matches!(self, Self::Starting | Self::Sharing | Self::Holding)
    }

    /// The state as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Sharing => "sharing",
            Self::Holding => "holding",
            Self::Draining => "draining",
            Self::Swapped => "swapped",
            Self::RolledBack => "rolled-back",
            Self::Restarted => "restarted",
            Self::Superseded => "superseded",
        }
    }
}

/// A share of requests and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShareStory {
    /// How many of 100 requests.
    pub percent: u8,
    /// For how long, in milliseconds.
    #[serde(serialize_with = "as_milliseconds")]
    #[schemars(with = "u64")]
    pub observe_ms: Duration,
}

/// A version of a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionStory {
    /// As it registered, else as its entry says; empty where neither says.
    pub version: String,
    /// The revision of its entry; 0 where nothing was saved.
    pub revision: u64,
}

fn as_milliseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_millis() as u64)
}

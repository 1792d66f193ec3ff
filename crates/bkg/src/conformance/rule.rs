//! The rules that a plugin is held to: one row each, in the order of the report.
//!
//! Not how they are tried: the scenes do that. The invariant: an id is the kebab-case name of its
//! variant and never changes its meaning, since authors put ids into their CI; each row points at a
//! heading of `docs/protocol.md` that exists. `docs/conformance.md` shows this table.

use std::fmt;

use serde::{Serialize, Serializer};

/// How much of the protocol a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The five messages that every plugin speaks.
    Base,
    /// What a plugin that registers with `protocol` takes on besides.
    Extended,
}

impl fmt::Display for Level {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Base => "base",
            Self::Extended => "extended",
        })
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the table below says what each demands")]
pub enum Rule {
    Prepares,
    DialsInTime,
    RegisterFirst,
    RegisterOnce,
    RegisterName,
    RegisterWithinEntry,
    BeatsKeepComing,
    ExampleAnswered,
    OneResponseEach,
    AnswersOwnIds,
    BadPayloadSurvived,
    UnknownCapabilityRefused,
    ConcurrentIds,
    LargeRequestSurvived,
    UnknownTypeIgnored,
    UnknownMembersIgnored,
    FramesValid,
    FrameSizeKept,
    LogsValid,
    OutputBounded,
    CloseAnswered,
    RedialsPolitely,
    RefusalBelieved,
    EndsAtSigterm,
    LeavesNothingBehind,
    SpeaksExtended,
    SilentUntilRegistered,
    HeartbeatKept,
    PingAnswered,
    GarbageSurvived,
    StrayAnswersIgnored,
    StrayCancelIgnored,
    AsksWithFreshIds,
    ChunkOrder,
    ChunkSizeKept,
    ChunksOnlyWhenAsked,
    NoChunkAfterResponse,
    CreditKept,
    StreamResumes,
    StreamNotCutShort,
    DuplicateIdHarmless,
    CancelAnswered,
    CancelRaceSurvived,
    GoodSettingsApplied,
    BadSettingsRefused,
    RefusedSettingsChangeNothing,
    DryRunsAnswered,
    DryRunChangesNothing,
    ReconnectsWithResume,
    BeatsAfterReconnect,
    OldIdsForgotten,
    DrainFinishesWork,
    DrainCloses,
    DrainExits,
}

/// What is written about a rule: its id, its level, what it demands, and where in `docs/protocol.md`
/// that stands.
struct Row(Rule, &'static str, Level, &'static str, &'static str);

use Level::{Base, Extended};

const TRANSPORT: &str = "1-transport";
const STARTS: &str = "3-how-the-host-starts-a-plugin";
const SAYS: &str = "what-a-plugin-says";
const CONTRACT: &str = "5-the-extended-contract";
const STREAMS: &str = "6-streams-and-credit";
const CANCEL: &str = "7-cancel";
const REST: &str = "9-the-rest-of-the-extended-contract";
const LIMITS: &str = "11-limits";
const CLOSES: &str = "12-close-codes";

const TABLE: &[Row] = &[
    Row(Rule::Prepares, "prepares", Base, "`prepare.sh`, where there is one, ends with code 0.", STARTS),
    Row(
        Rule::DialsInTime,
        "dials-in-time",
        Base,
        "Once started, the plugin opens a WebSocket to `BKG_PLUGIN_BUS_URL`.",
        STARTS,
    ),
    Row(
        Rule::RegisterFirst,
        "register-first",
        Base,
        "The first frame is a valid `register`, within 5 s of connecting.",
        SAYS,
    ),
    Row(Rule::RegisterOnce, "register-once", Base, "A session has one `register` and no second.", SAYS),
    Row(
        Rule::RegisterName,
        "register-name",
        Base,
        "The plugin registers under the name in `BKG_PLUGIN_NAME`.",
        STARTS,
    ),
    Row(
        Rule::RegisterWithinEntry,
        "register-within-entry",
        Base,
        "It registers no capability and no model that its entry does not list, and what its models, routes and tools name is registered.",
        "what-register-may-hold",
    ),
    Row(
        Rule::BeatsKeepComing,
        "beats-keep-coming",
        Base,
        "After `register` it sends `health`, and again every 10 s or as `heartbeatMs` says.",
        SAYS,
    ),
    Row(
        Rule::ExampleAnswered,
        "example-answered",
        Base,
        "The questions of `check.json` are answered with success.",
        SAYS,
    ),
    Row(Rule::OneResponseEach, "one-response-each", Base, "A request has one `response`, never two.", SAYS),
    Row(
        Rule::AnswersOwnIds,
        "answers-own-ids",
        Base,
        "`response` and `chunk` carry ids of requests that were put to this session.",
        "2-names-and-ids",
    ),
    Row(
        Rule::BadPayloadSurvived,
        "bad-payload-survived",
        Base,
        "Payloads of the wrong type, depth or size are answered, with success or not, and the plugin lives on.",
        SAYS,
    ),
    Row(
        Rule::UnknownCapabilityRefused,
        "unknown-capability-refused",
        Base,
        "A request for a capability that it does not have is answered with a failure.",
        SAYS,
    ),
    Row(
        Rule::ConcurrentIds,
        "concurrent-ids",
        Base,
        "Requests that come at once are each answered, in whatever order.",
        "a-whole-session-frame-by-frame",
    ),
    Row(
        Rule::LargeRequestSurvived,
        "large-request-survived",
        Base,
        "A request as large as a frame may be is answered, with success or not, and the plugin lives on.",
        LIMITS,
    ),
    Row(
        Rule::UnknownTypeIgnored,
        "unknown-type-ignored",
        Base,
        "A frame whose `type` it does not know changes nothing.",
        TRANSPORT,
    ),
    Row(
        Rule::UnknownMembersIgnored,
        "unknown-members-ignored",
        Base,
        "Members that it does not know change nothing.",
        TRANSPORT,
    ),
    Row(
        Rule::FramesValid,
        "frames-valid",
        Base,
        "Each frame is WebSocket text with one JSON object in it that keeps to the schema of its `type`.",
        TRANSPORT,
    ),
    Row(
        Rule::FrameSizeKept,
        "frame-size-kept",
        Base,
        "No frame is larger than 16 MiB, or than `limits.maxFrameBytes`; an answer that would be is a failure instead.",
        LIMITS,
    ),
    Row(
        Rule::LogsValid,
        "logs-valid",
        Base,
        "`log` and `telemetry` keep to their schemas, and name the plugin that sends them.",
        SAYS,
    ),
    Row(
        Rule::OutputBounded,
        "output-bounded",
        Base,
        "It does not write more than 2,000 lines within a second, on stdout, stderr and the bus together.",
        LIMITS,
    ),
    Row(
        Rule::CloseAnswered,
        "close-answered",
        Base,
        "When the host closes the WebSocket, the plugin answers the close, or ends.",
        CLOSES,
    ),
    Row(
        Rule::RedialsPolitely,
        "redials-politely",
        Base,
        "When its socket is closed again and again, it ends, or dials again with pauses.",
        REST,
    ),
    Row(
        Rule::RefusalBelieved,
        "refusal-believed",
        Base,
        "When its registration is refused, it ends, or dials again with pauses.",
        CLOSES,
    ),
    Row(
        Rule::EndsAtSigterm,
        "ends-at-sigterm",
        Base,
        "It ends within the grace of 5 s after SIGTERM.",
        STARTS,
    ),
    Row(
        Rule::LeavesNothingBehind,
        "leaves-nothing-behind",
        Base,
        "When it has ended at SIGTERM, no process that it started has to be killed.",
        STARTS,
    ),
    Row(Rule::SpeaksExtended, "speaks-extended", Extended, "It registers with `protocol: 1`.", CONTRACT),
    Row(
        Rule::SilentUntilRegistered,
        "silent-until-registered",
        Extended,
        "Nothing follows `register` before `registered` has come.",
        CONTRACT,
    ),
    Row(
        Rule::HeartbeatKept,
        "heartbeat-kept",
        Extended,
        "`health` comes as often as `heartbeatMs` of `registered` says.",
        CONTRACT,
    ),
    Row(Rule::PingAnswered, "ping-answered", Extended, "A WebSocket ping is answered by its pong.", REST),
    Row(
        Rule::GarbageSurvived,
        "garbage-survived",
        Extended,
        "Frames that cannot be read do not end it, and the next question is answered.",
        TRANSPORT,
    ),
    Row(
        Rule::StrayAnswersIgnored,
        "stray-answers-ignored",
        Extended,
        "A `response` or `chunk` for a request that it never made changes nothing.",
        LIMITS,
    ),
    Row(
        Rule::StrayCancelIgnored,
        "stray-cancel-ignored",
        Extended,
        "A `cancel` or `credit` for a request that is over, or never was, changes nothing.",
        CANCEL,
    ),
    Row(
        Rule::AsksWithFreshIds,
        "asks-with-fresh-ids",
        Extended,
        "What it asks itself has an id that none of its open requests has.",
        "8-asking-from-a-plugin",
    ),
    Row(
        Rule::ChunkOrder,
        "chunk-order",
        Extended,
        "`seq` of a stream's chunks counts from 0 without gaps.",
        STREAMS,
    ),
    Row(
        Rule::ChunkSizeKept,
        "chunk-size-kept",
        Extended,
        "`data` of a chunk is not larger than `limits.maxChunkBytes`.",
        STREAMS,
    ),
    Row(
        Rule::ChunksOnlyWhenAsked,
        "chunks-only-when-asked",
        Extended,
        "A request without `stream` is answered without chunks.",
        STREAMS,
    ),
    Row(
        Rule::NoChunkAfterResponse,
        "no-chunk-after-response",
        Extended,
        "After the `response` of a stream no chunk of it comes.",
        STREAMS,
    ),
    Row(
        Rule::CreditKept,
        "credit-kept",
        Extended,
        "A stream has never sent more chunks than it was given credit for.",
        STREAMS,
    ),
    Row(
        Rule::StreamResumes,
        "stream-resumes",
        Extended,
        "A stream that waited for credit goes on when credit comes, to its end.",
        STREAMS,
    ),
    Row(
        Rule::StreamNotCutShort,
        "stream-not-cut-short",
        Extended,
        "A stream that has no credit left waits, and does not claim to have succeeded.",
        STREAMS,
    ),
    Row(
        Rule::DuplicateIdHarmless,
        "duplicate-id-harmless",
        Extended,
        "A second request with the id of an open one neither is answered nor disturbs the first.",
        "what-a-request-may-hold-besides",
    ),
    Row(
        Rule::CancelAnswered,
        "cancel-answered",
        Extended,
        "A request that is cancelled is answered within 5 s: `cancelled`, or how it ended before.",
        CANCEL,
    ),
    Row(
        Rule::CancelRaceSurvived,
        "cancel-race-survived",
        Extended,
        "However a `cancel` meets the end of the request, one `response` comes.",
        CANCEL,
    ),
    Row(
        Rule::GoodSettingsApplied,
        "good-settings-applied",
        Extended,
        "Good settings that are pushed are answered with `configApplied`, `success: true` and their revision.",
        REST,
    ),
    Row(
        Rule::BadSettingsRefused,
        "bad-settings-refused",
        Extended,
        "Bad settings that are pushed are answered with `configApplied`, `success: false` and their revision.",
        REST,
    ),
    Row(
        Rule::RefusedSettingsChangeNothing,
        "refused-settings-change-nothing",
        Extended,
        "After settings were refused, it answers as before.",
        REST,
    ),
    Row(
        Rule::DryRunsAnswered,
        "dry-runs-answered",
        Extended,
        "Settings that are only tried are answered with `configApplied`, `dryRun: true` and their revision; `success` says what a push would.",
        REST,
    ),
    Row(
        Rule::DryRunChangesNothing,
        "dry-run-changes-nothing",
        Extended,
        "After a dry run, it answers as before.",
        REST,
    ),
    Row(
        Rule::ReconnectsWithResume,
        "reconnects-with-resume",
        Extended,
        "When the link breaks, it dials again and registers with the `resume` secret of the last `registered`.",
        REST,
    ),
    Row(
        Rule::BeatsAfterReconnect,
        "beats-after-reconnect",
        Extended,
        "In the session after a broken link it beats, and answers.",
        REST,
    ),
    Row(
        Rule::OldIdsForgotten,
        "old-ids-forgotten",
        Extended,
        "Requests that were open when the link broke are not answered in the next session.",
        REST,
    ),
    Row(
        Rule::DrainFinishesWork,
        "drain-finishes-work",
        Extended,
        "After `drain` the stream in hand goes on to its end.",
        REST,
    ),
    Row(
        Rule::DrainCloses,
        "drain-closes",
        Extended,
        "When nothing is left to do after `drain`, it closes with 1000.",
        REST,
    ),
    Row(Rule::DrainExits, "drain-exits", Extended, "When it has drained, its process ends.", REST),
];

impl Rule {
    /// Every rule, in the order of the report.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The rule of this id.
    pub fn named(id: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// Its name in reports and on the command line.
    pub fn id(self) -> &'static str {
        self.row().1
    }

    /// How much of the protocol it is about.
    pub fn level(self) -> Level {
        self.row().2
    }

    /// What it demands, in one sentence.
    pub fn demand(self) -> &'static str {
        self.row().3
    }

    /// Where that is written down.
    pub fn pointer(self) -> String {
        format!("docs/protocol.md#{}", self.row().4)
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_row_stands_where_its_rule_looks_for_it() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index, "{}", row.1);
            let name = format!("{:?}", row.0);
            let words = name.chars().flat_map(|c| {
                let dash = c.is_uppercase().then_some('-');
                dash.into_iter().chain([c.to_ascii_lowercase()])
            });
            assert_eq!(words.skip(1).collect::<String>(), row.1);
            assert_eq!(Rule::named(row.1), Some(row.0));
            assert!(row.3.ends_with('.'), "{}", row.1);
        }
        assert!(Rule::all().is_sorted_by_key(Rule::level), "the report has one group for each level");
    }

    /// The anchor that a page gives to a heading.
    fn anchor(heading: &str) -> String {
        let kept = heading.trim_start_matches('#').trim().chars();
        let kept = kept.filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    }

    #[test]
    fn each_rule_points_at_a_heading_that_exists() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
        let page = std::fs::read_to_string(page).unwrap();
        let anchors: Vec<String> = page.lines().filter(|line| line.starts_with('#')).map(anchor).collect();
        for rule in Rule::all() {
            let wanted = rule.pointer();
            let wanted = wanted.strip_prefix("docs/protocol.md#").unwrap();
            assert!(anchors.iter().any(|anchor| anchor == wanted), "{}: {wanted}", rule.id());
        }
    }

    const TABLE_OPENS: &str =
        "<!-- rules: written by `BKG_BLESS=1 cargo test -p bkg --lib conformance::rule` -->\n";
    const TABLE_CLOSES: &str = "<!-- /rules -->";

    fn table() -> String {
        let mut table = "| rule | level | what it demands | see |\n|---|---|---|---|\n".to_owned();
        for rule in Rule::all() {
            let anchor = rule.row().4;
            let name =
                anchor.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-').replace('-', " ");
            let row = format!(
                "| `{}` | {} | {} | [{name}](protocol.md#{anchor}) |\n",
                rule.id(),
                rule.level(),
                rule.demand()
            );
            table.push_str(&row);
        }
        table
    }

    #[test]
    fn the_page_shows_the_rules_as_they_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/conformance.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(TABLE_OPENS).expect("the page has the place of the table");
        let (shown, after) = rest.split_once(TABLE_CLOSES).expect("the table ends");
        if std::env::var_os("BKG_BLESS").is_some_and(|value| value == "1") {
            std::fs::write(&path, format!("{before}{TABLE_OPENS}{}{TABLE_CLOSES}{after}", table()))
                .unwrap();
        } else {
            assert_eq!(shown, table(), "run with `BKG_BLESS=1` and read the difference");
        }
    }
}

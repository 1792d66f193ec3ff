//! Both halves of a session under schedules of frames, honest and hostile, and the books that are kept
//! of them: who asked what, what may be answered, and which frames may be written.
//!
//! Not which schedules are tried: `main.rs` makes them by chance, and the fuzzer of the workspace by
//! what they reach. The invariants are assertions: no answer reaches another caller, no waiter leaks,
//! no credit is broken. Time is a number.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]
#![allow(clippy::result_large_err, reason = "the shape is that of the API under test")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bkg_protocol::exchange::{Dropped, GivenUp};
use bkg_protocol::frame::{Decoded, Message};
use bkg_protocol::host::{Acceptance, Contract, HostEvent, HostSession};
use bkg_protocol::inbound::ChunkRefused;
use bkg_protocol::message::{CancelReason, Config, Event, Health, Register, Request, Secret};
use bkg_protocol::plugin::{PluginEvent, PluginSession};
use bkg_protocol::{
    ErrorCode, HostMessage, InstanceId, Limits, PluginMessage, RawJson, RequestId, WireError,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

pub(crate) const HOST_SEED: u64 = 0xa0a0_a0a0_a0a0_0a0a;
pub(crate) const PLUGIN_SEED: u64 = 0xb0b0_b0b0_b0b0_0b0b;
/// What the peer may have waiting at once in these tests, so that schedules reach the bound.
pub(crate) const MOST_FROM_PLUGIN: u32 = 3;
pub(crate) const CREDIT: u32 = 2;
pub(crate) const CHUNK: usize = 64;

pub(crate) fn limits() -> Limits {
    Limits {
        chunk: CHUNK,
        stream_credit: CREDIT,
        in_flight_from_plugin: MOST_FROM_PLUGIN,
        unreadable_frames: 20,
        ..Limits::default()
    }
}

/// Which id a hostile frame names.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    /// One that the half under test gave, open or not.
    Given(Index),
    /// The one that it gives next.
    Next,
    /// One of the peer's own, of which there are few, so that they clash.
    Own(u8),
    /// One of another session's, or no id at all.
    Foreign(String),
}

/// What is done to a frame before it arrives.
#[derive(Debug, Clone)]
pub(crate) enum Spoilt {
    No,
    /// It arrives twice.
    Doubled,
    /// It ends early.
    Cut(Index),
    /// One byte is another.
    Changed(Index, u8),
    /// It is written the other way round: another order of members, and blanks.
    Rearranged,
}

#[derive(Debug, Clone)]
pub(crate) enum Hostile {
    Response { id: Named, success: Value },
    Chunk { id: Named, seq: Seq, bytes: usize },
    Cancel { id: Named },
    Credit { id: Named, n: u32 },
    Request { id: Named, stream: bool, credit: Option<u32>, capability: &'static str },
    Fixed(&'static str),
    Text(String),
}

/// Which `seq` a hostile chunk carries.
#[derive(Debug, Clone)]
pub(crate) enum Seq {
    /// The one that is due.
    Due,
    Number(u64),
    Unreadable,
}

/// What the application behind the half under test does.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    Request { stream: bool, credit: Option<u32> },
    Cancel(Index),
    Credit(Index, u32),
    Answer(Named, bool),
    Chunk(Named, usize),
    Write(u8),
    Drain,
    Push,
    Wait(u16),
    End,
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Does(Does),
    Arrives(Hostile, Spoilt),
}

pub(crate) fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        6 => any::<Index>().prop_map(Named::Given),
        1 => Just(Named::Next),
        3 => (0..4_u8).prop_map(Named::Own),
        1 => prop_oneof![
            Just(String::new()),
            Just("c0c0c0c0-c0c0-8c0c-8000-000000000000".to_owned()),
            // The right numbers in another spelling: a foreign id.
            Just("A0A0A0A0-A0A0-8A0A-8000-000000000000".to_owned()),
            Just("a0a0a0a0a0a08a0a8000000000000000".to_owned()),
            Just("B0B0B0B0-B0B0-8B0B-8000-000000000000".to_owned()),
            ".{0,200}",
        ]
        .prop_map(Named::Foreign),
    ]
}

pub(crate) fn hostile() -> impl Strategy<Value = Hostile> {
    let seq = prop_oneof![
        6 => Just(Seq::Due),
        2 => (0..4_u64).prop_map(Seq::Number),
        1 => Just(Seq::Number(u64::MAX)),
        1 => Just(Seq::Unreadable),
    ];
    let success = prop_oneof![
        4 => Just(json!(true)),
        2 => Just(json!(false)),
        1 => Just(json!("yes")),
        1 => Just(Value::Null),
    ];
    prop_oneof![
        5 => (named(), success).prop_map(|(id, success)| Hostile::Response { id, success }),
        8 => (named(), seq, prop_oneof![9 => 0..CHUNK, 1 => Just(CHUNK * 4)])
            .prop_map(|(id, seq, bytes)| Hostile::Chunk { id, seq, bytes }),
        2 => named().prop_map(|id| Hostile::Cancel { id }),
        2 => (named(), prop_oneof![0..4_u32, Just(u32::MAX)]).prop_map(|(id, n)| Hostile::Credit { id, n }),
        5 => (
            named(),
            any::<bool>(),
            prop_oneof![Just(None), (0..3_u32).prop_map(Some), Just(Some(u32::MAX))],
            prop_oneof![5 => Just("a.b"), 1 => Just("no dots")],
        )
            .prop_map(|(id, stream, credit, capability)| Hostile::Request { id, stream, credit, capability }),
        4 => proptest::sample::select(FIXED.as_slice()).prop_map(Hostile::Fixed),
        1 => ".{0,40}".prop_map(Hostile::Text),
    ]
}

pub(crate) const REGISTER: &str =
    r#"{"type":"register","plugin":"echo","capabilities":["a.b"],"protocol":1}"#;
pub(crate) const REGISTER_BASE: &str = r#"{"type":"register","plugin":"echo","capabilities":["a.b"]}"#;
pub(crate) const REGISTERED: &str = r#"{"type":"registered","protocol":1,"instance":"0198c0de-0000-7000-8000-000000000001","resume":"r","heartbeatMs":1,"limits":{"maxFrameBytes":4096,"maxChunkBytes":64,"streamCredit":2}}"#;
pub(crate) const DRAIN: &str = r#"{"type":"drain","deadlineMs":18446744073709551615}"#;

/// Frames of both directions that name no request, right and wrong.
pub(crate) const FIXED: [&str; 27] = [
    REGISTER,
    REGISTER_BASE,
    r#"{"type":"register","plugin":"Not A Name"}"#,
    r#"{"type":"health","status":"up"}"#,
    r#"{"type":"health","status":3}"#,
    r#"{"type":"telemetry","cpu":1e400}"#,
    r#"{"type":"telemetry","cpu":1,"type":"health"}"#,
    r#"{"type":"log","level":[],"message":{},"timestamp":-1}"#,
    r#"{"type":"update","models":[]}"#,
    r#"{"type":"update","models":3}"#,
    r#"{"type":"subscribe","topic":"t"}"#,
    r#"{"type":"unsubscribe","topic":"t"}"#,
    r#"{"type":"publish","topic":"t"}"#,
    r#"{"type":"configApplied","revision":18446744073709551615,"success":true}"#,
    r#"{"type":"authChanged","generation":0}"#,
    REGISTERED,
    r#"{"type":"rejected","code":"forbidden","message":"no"}"#,
    r#"{"type":"updated","success":false}"#,
    r#"{"type":"event","topic":"t"}"#,
    r#"{"type":"config","revision":1,"config":{}}"#,
    r#"{"type":"config","revision":2,"config":{},"dryRun":true}"#,
    DRAIN,
    r#"{"type":"tomorrow"}"#,
    r#"{"type":"response"}"#,
    r#"{"type":null}"#,
    r#"[[[[[[[["#,
    r#"{"type":"chunk","requestId":"\ud800","seq":0}"#,
];

pub(crate) fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        6 => (any::<bool>(), prop_oneof![Just(None), (0..4_u32).prop_map(Some)])
            .prop_map(|(stream, credit)| Does::Request { stream, credit }),
        3 => any::<Index>().prop_map(Does::Cancel),
        3 => (any::<Index>(), prop_oneof![0..3_u32, Just(u32::MAX)]).prop_map(|(at, n)| Does::Credit(at, n)),
        3 => (named(), any::<bool>()).prop_map(|(id, ok)| Does::Answer(id, ok)),
        3 => (named(), 0..CHUNK * 2).prop_map(|(id, bytes)| Does::Chunk(id, bytes)),
        6 => (1..8_u8).prop_map(Does::Write),
        1 => Just(Does::Push),
        1 => (0..20_000_u16).prop_map(Does::Wait),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let spoilt = prop_oneof![
        12 => Just(Spoilt::No),
        2 => Just(Spoilt::Doubled),
        1 => any::<Index>().prop_map(Spoilt::Cut),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Spoilt::Changed(at, byte)),
        1 => Just(Spoilt::Rearranged),
    ];
    prop_oneof![
        20 => does().prop_map(Step::Does),
        20 => (hostile(), spoilt).prop_map(|(frame, spoilt)| Step::Arrives(frame, spoilt)),
        1 => prop_oneof![3 => Just(Does::Drain), 1 => Just(Does::End)].prop_map(Step::Does),
    ]
}

/// Stands behind a request: who it is, and under which id it asked.
#[derive(Debug, PartialEq)]
pub(crate) struct Waiter(usize);

/// What is known of one request of the half under test.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) id: Option<RequestId>,
    out: bool,
    told_broken: bool,
    given_up: bool,
    granted: u64,
    delivered: u64,
}

/// The books of the application behind a half: every rule is checked at the moment it could break.
#[derive(Debug, Default)]
pub(crate) struct Books {
    pub(crate) asked: Vec<Asked>,
    /// The id that the frame at hand names, and its `data`.
    arriving: Option<(String, Value)>,
}

impl Books {
    pub(crate) fn enter(&mut self) -> Waiter {
        self.asked.push(Asked::default());
        Waiter(self.asked.len() - 1)
    }

    pub(crate) fn started(&mut self, at: usize, id: RequestId, credit: Option<u32>) {
        assert!(self.asked.iter().all(|other| other.id.as_ref() != Some(&id)), "an id is given once");
        self.asked[at].id = Some(id);
        self.asked[at].granted = u64::from(credit.unwrap_or(0));
    }

    pub(crate) fn comes_out(&mut self, waiter: &Waiter) -> &mut Asked {
        let asked = &mut self.asked[waiter.0];
        assert!(!asked.out, "a waiter comes out once");
        asked.out = true;
        asked
    }

    /// The event belongs to the request that the frame names, and to no other.
    pub(crate) fn is_addressed_to(&self, waiter: &Waiter) {
        let (id, _) = self.arriving.as_ref().expect("an event comes from a frame");
        let asked = &self.asked[waiter.0];
        assert_eq!(
            asked.id.as_ref().map(RequestId::as_str),
            Some(id.as_str()),
            "an answer reaches its asker"
        );
        assert!(!asked.out, "who came out hears no more");
    }

    pub(crate) fn answered(&mut self, waiter: &Waiter, outcome: &Result<RawJson, WireError>) {
        self.is_addressed_to(waiter);
        if let Ok(data) = outcome {
            let (_, sent) = self.arriving.as_ref().expect("an event comes from a frame");
            assert_eq!(data.read::<Value>().unwrap(), *sent, "an answer is the one that was sent");
        }
        let asked = self.comes_out(waiter);
        assert!(!asked.given_up && !asked.told_broken, "who gave up is not answered");
    }

    pub(crate) fn released(&mut self, waiter: &Waiter) {
        self.is_addressed_to(waiter);
        let asked = self.comes_out(waiter);
        assert!(asked.given_up || asked.told_broken, "only what was given up is released");
    }

    pub(crate) fn chunk(&mut self, waiter: &Waiter) {
        self.is_addressed_to(waiter);
        let asked = &mut self.asked[waiter.0];
        assert!(!asked.given_up && !asked.told_broken, "who gave up gets no chunks");
        asked.delivered += 1;
        assert!(asked.delivered <= asked.granted, "no more chunks than were granted");
    }

    pub(crate) fn broken(&mut self, waiter: &Waiter) {
        self.is_addressed_to(waiter);
        let asked = &mut self.asked[waiter.0];
        assert!(!asked.given_up && !asked.told_broken, "a stream breaks once");
        asked.told_broken = true;
    }

    pub(crate) fn cancelled(&mut self, at: usize, given_up: GivenUp<Waiter>) {
        match given_up {
            GivenUp::Retracted(waiter) => {
                assert_eq!(waiter.0, at);
                self.comes_out(&waiter);
            }
            GivenUp::Told => self.asked[at].given_up = true,
            GivenUp::Over => {
                let asked = &self.asked[at];
                assert!(asked.out || asked.given_up || asked.told_broken, "what is open can be given up");
            }
        }
    }

    pub(crate) fn open(&self) -> usize {
        self.asked.iter().filter(|asked| asked.id.is_some() && !asked.out).count()
    }

    pub(crate) fn pick(&self, index: Index) -> Option<(usize, RequestId)> {
        let ids: Vec<(usize, &RequestId)> = self
            .asked
            .iter()
            .enumerate()
            .filter_map(|(at, asked)| Some((at, asked.id.as_ref()?)))
            .collect();
        (!ids.is_empty()).then(|| index.get(&ids)).map(|&(at, id)| (at, id.clone()))
    }

    pub(crate) fn name(&self, named: &Named, seed_text: &str) -> String {
        match named {
            Named::Given(index) => {
                self.pick(*index).map_or_else(|| "none".to_owned(), |(_, id)| id.as_str().to_owned())
            }
            Named::Next => {
                let given = self.asked.iter().filter(|asked| asked.id.is_some()).count();
                format!("{seed_text}-8000-{given:012x}")
            }
            Named::Own(number) => format!("own-{number}"),
            Named::Foreign(text) => text.clone(),
        }
    }

    /// Writes a hostile frame down, and remembers what it names.
    pub(crate) fn frame(&self, hostile: &Hostile, seed_text: &str) -> String {
        let name = |named| self.name(named, seed_text);
        match hostile {
            Hostile::Response { id, success } => json!({
                "type": "response", "requestId": name(id), "success": success, "data": { "for": name(id) }
            })
            .to_string(),
            Hostile::Chunk { id, seq, bytes } => {
                let id = name(id);
                let delivered = self
                    .asked
                    .iter()
                    .find(|asked| asked.id.as_ref().is_some_and(|own| own.as_str() == id))
                    .map_or(0, |asked| asked.delivered);
                let seq = match seq {
                    Seq::Due => json!(delivered),
                    Seq::Number(number) => json!(number),
                    Seq::Unreadable => json!("first"),
                };
                json!({ "type": "chunk", "requestId": id, "seq": seq, "data": "x".repeat(*bytes) })
                    .to_string()
            }
            Hostile::Cancel { id } => json!({ "type": "cancel", "requestId": name(id) }).to_string(),
            Hostile::Credit { id, n } => {
                json!({ "type": "credit", "requestId": name(id), "n": n }).to_string()
            }
            Hostile::Request { id, stream, credit, capability } => json!({
                "type": "request", "requestId": name(id), "capability": capability, "payload": {},
                "stream": stream, "credit": credit
            })
            .to_string(),
            Hostile::Fixed(text) => (*text).to_owned(),
            Hostile::Text(text) => text.clone(),
        }
    }
}

pub(crate) fn spoil(frame: String, spoilt: &Spoilt) -> Vec<String> {
    match spoilt {
        Spoilt::No => vec![frame],
        Spoilt::Doubled => vec![frame.clone(), frame],
        Spoilt::Cut(at) => {
            let end = frame.floor_char_boundary(at.index(frame.len() + 1));
            vec![frame[..end].to_owned()]
        }
        Spoilt::Changed(at, byte) => {
            let mut bytes = frame.into_bytes();
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            vec![String::from_utf8_lossy(&bytes).into_owned()]
        }
        Spoilt::Rearranged => match serde_json::from_str::<Value>(&frame) {
            Ok(Value::Object(members)) => {
                let reversed: serde_json::Map<String, Value> = members.into_iter().rev().collect();
                vec![serde_json::to_string_pretty(&reversed).unwrap()]
            }
            _ => vec![frame],
        },
    }
}

/// The id and the data of a frame, as any JSON reader sees them.
pub(crate) fn addressed(frame: &str) -> Option<(String, Value)> {
    // Read no closer than the host does: a number elsewhere may be larger than any that there is.
    let members: BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_str(frame).ok()?;
    let request_id = serde_json::from_str(members.get("requestId")?.get()).ok()?;
    let data = members.get("data").and_then(|data| serde_json::from_str(data.get()).ok());
    Some((request_id, data.unwrap_or_default()))
}

/// Checks what a half writes: what it answers was asked, once, in order and within the asker's credit.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    /// By id, oldest first: an id is free again once its answer is made, though not written yet.
    answers_due: BTreeMap<String, VecDeque<Streamed>>,
    asked: BTreeSet<String>,
    frames: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Streamed {
    credit: u64,
    chunks: u64,
}

impl Watcher {
    pub(crate) fn admitted(&mut self, request: &Request, default_credit: u32) {
        let credit = if request.stream { u64::from(request.credit.unwrap_or(default_credit)) } else { 0 };
        self.due(request.request_id.as_str()).push_back(Streamed { credit, chunks: 0 });
    }

    /// A request that is refused without its application hearing of it.
    pub(crate) fn refused(&mut self, id: &str) {
        self.due(id).push_back(Streamed::default());
    }

    pub(crate) fn due(&mut self, id: &str) -> &mut VecDeque<Streamed> {
        self.answers_due.entry(id.to_owned()).or_default()
    }

    /// The session ended: nobody will read the answer.
    pub(crate) fn abandoned(&mut self, id: &RequestId) {
        assert!(self.due(id.as_str()).pop_back().is_some(), "what is owed was asked");
    }

    pub(crate) fn credited(&mut self, id: &RequestId, n: u32) {
        let streamed = self.due(id.as_str()).back_mut().expect("credit is for an open request");
        streamed.credit += u64::from(n);
    }

    pub(crate) fn written<M: Message>(&mut self, text: &str) {
        self.frames += 1;
        assert!(matches!(M::decode(text), Ok(Decoded::Message(_))), "what is written can be read: {text}");
        let frame: Value = serde_json::from_str(text).unwrap();
        let id = frame["requestId"].as_str().unwrap_or_default();
        match frame["type"].as_str().unwrap() {
            "request" => assert!(self.asked.insert(id.to_owned()), "a request is written once"),
            "cancel" | "credit" => assert!(self.asked.contains(id), "nothing precedes its request: {text}"),
            "response" => {
                assert!(self.due(id).pop_front().is_some(), "an answer answers an open request: {text}");
            }
            "chunk" => {
                let streamed = self.due(id).front_mut().expect("a chunk belongs to an open request");
                assert_eq!(frame["seq"], json!(streamed.chunks), "chunks have no gaps");
                streamed.chunks += 1;
                assert!(streamed.chunks <= streamed.credit, "no more chunks than were granted");
            }
            _ => {}
        }
    }
}

pub(crate) struct HostUnderTest {
    pub(crate) session: HostSession<Waiter>,
    pub(crate) books: Books,
    watcher: Watcher,
    now: Duration,
    ended: bool,
}

impl HostUnderTest {
    pub(crate) fn new(contract: Contract) -> Self {
        let mut session = HostSession::new(HOST_SEED, limits(), None);
        let register = match contract {
            Contract::Base => REGISTER_BASE,
            Contract::Extended => REGISTER,
        };
        assert!(matches!(session.receive(register, Duration::ZERO), HostEvent::Register(_)));
        session.accept(Acceptance {
            instance: InstanceId::new(),
            resume: Secret::new("secret"),
            config: RawJson::EMPTY_OBJECT,
            config_revision: 1,
        });
        let (books, watcher) = (Books::default(), Watcher::default());
        Self { session, books, watcher, now: Duration::ZERO, ended: false }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Does(does) => self.act(does),
            Step::Arrives(hostile, spoilt) => {
                for text in spoil(self.books.frame(hostile, "a0a0a0a0-a0a0-8a0a"), spoilt) {
                    self.receive(&text);
                }
            }
        }
        assert_eq!(self.session.in_flight(), self.books.open(), "no waiter leaks");
    }

    pub(crate) fn act(&mut self, does: &Does) {
        let now = self.now;
        match does {
            Does::Request { stream, credit } => {
                let waiter = self.books.enter();
                let at = waiter.0;
                let request = Request {
                    stream: *stream,
                    credit: *credit,
                    ..Request::new("a.b".parse().unwrap(), RawJson::EMPTY_OBJECT)
                };
                match self.session.start(request, waiter) {
                    Ok(id) => {
                        let streams = *stream && self.session.contract() == Contract::Extended;
                        self.books.started(at, id, streams.then(|| credit.unwrap_or(CREDIT)));
                    }
                    Err(refused) => assert_eq!(refused.waiter, Waiter(at)),
                }
            }
            Does::Cancel(index) => {
                let Some((at, id)) = self.books.pick(*index) else { return };
                let given_up = self.session.cancel(&id, CancelReason::CallerGone, now);
                self.books.cancelled(at, given_up);
            }
            Does::Credit(index, n) => {
                let Some((at, id)) = self.books.pick(*index) else { return };
                self.session.credit(&id, *n);
                self.books.asked[at].granted += u64::from(*n);
            }
            Does::Answer(named, succeeds) => {
                let id = id(&self.books.name(named, "a0a0a0a0-a0a0-8a0a"));
                self.session.answer(&id, outcome(*succeeds));
            }
            Does::Chunk(named, bytes) => {
                let id = id(&self.books.name(named, "a0a0a0a0-a0a0-8a0a"));
                let _ = self.session.send_chunk(&id, text_of(*bytes));
            }
            Does::Write(frames) => self.write(usize::from(*frames)),
            Does::Drain => {
                for waiter in self.session.drain(Duration::from_secs(1)) {
                    self.books.comes_out(&waiter);
                }
            }
            Does::Push => {
                self.session.event(Event { topic: "t".to_owned(), data: RawJson::NULL, client: None });
                for dry_run in [false, true] {
                    self.session.config(Config { revision: 1, config: RawJson::EMPTY_OBJECT, dry_run });
                }
            }
            Does::Wait(milliseconds) => {
                self.now += Duration::from_millis(u64::from(*milliseconds));
                self.session.overdue(self.now);
            }
            Does::End => self.end(),
        }
    }

    pub(crate) fn write(&mut self, most: usize) {
        for _ in 0..most {
            let Some(text) = self.session.next_frame() else { break };
            self.watcher.written::<HostMessage>(&text);
            if self.session.contract() == Contract::Base {
                let frame: Value = serde_json::from_str(&text).unwrap();
                assert!(
                    ["request", "response"].contains(&frame["type"].as_str().unwrap()),
                    "a base plugin is sent nothing else: {text}"
                );
                let known =
                    ["type", "requestId", "capability", "payload", "token", "success", "data", "error"];
                assert!(
                    frame.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())),
                    "{text}"
                );
            }
        }
    }

    pub(crate) fn receive(&mut self, text: &str) {
        self.books.arriving = addressed(text);
        let open_before = self.session.owed();
        let bytes_before = self.session.waiting_bytes();
        let event = self.session.receive(text, self.now);
        let mut updated = false;
        let mut request_dropped = false;
        match event {
            HostEvent::Answered { waiter, outcome } => self.books.answered(&waiter, &outcome),
            HostEvent::Released { waiter } => self.books.released(&waiter),
            HostEvent::Chunk { waiter, .. } => self.books.chunk(waiter),
            HostEvent::Broken { waiter, error } => {
                assert_eq!(error.code, "plugin_error");
                self.books.broken(waiter);
            }
            HostEvent::Request(request) => {
                assert!(open_before < MOST_FROM_PLUGIN as usize, "what is owed is bounded");
                self.watcher.admitted(&request, CREDIT);
            }
            HostEvent::MayStream(id) => {
                let Ok(Decoded::Message(PluginMessage::Credit(credit))) = PluginMessage::decode(text)
                else {
                    panic!("only a credit lets a stream go on")
                };
                self.watcher.credited(&id, credit.n);
            }
            HostEvent::Update(_) => updated = true,
            HostEvent::Dropped(Dropped::OutOfPlace | Dropped::Unreadable) => request_dropped = true,
            HostEvent::Register(_) => panic!("a session registers once"),
            _ => {}
        }
        if request_dropped && self.session.waiting_bytes() > bytes_before {
            // A request that is refused at the door is answered all the same.
            let (id, _) = self.books.arriving.clone().expect("it named its request");
            self.watcher.refused(&id);
        }
        if updated {
            self.session.updated(Ok(()));
        }
    }

    pub(crate) fn end(&mut self) {
        let (lost, owed) = self.session.end();
        for lost in lost {
            let was_written = {
                let id = self.books.asked[lost.waiter.0].id.clone().expect("it was asked");
                self.watcher.asked.contains(id.as_str())
            };
            assert_eq!(lost.handed_over, was_written, "the host knows what the plugin has seen");
            self.books.comes_out(&lost.waiter);
        }
        for id in owed {
            self.watcher.abandoned(&id);
        }
        self.ended = true;
    }

    /// At the end of any schedule every waiter has come out.
    pub(crate) fn finish(mut self) {
        self.end();
        assert_eq!(self.session.in_flight(), 0);
        assert_eq!(self.session.owed(), 0);
        assert!(
            self.books.asked.iter().all(|asked| asked.out || asked.id.is_none()),
            "every waiter comes out"
        );
    }
}

pub(crate) struct PluginUnderTest {
    session: PluginSession<Waiter>,
    books: Books,
    watcher: Watcher,
    now: Duration,
}

impl PluginUnderTest {
    pub(crate) fn new() -> Self {
        let mut session = PluginSession::new(PLUGIN_SEED, Register::new("echo".parse().unwrap()));
        let first = session.next_frame().unwrap();
        assert!(matches!(
            PluginMessage::decode(&first),
            Ok(Decoded::Message(PluginMessage::Register(register))) if register.protocol == Some(1)
        ));
        assert!(matches!(session.receive(REGISTERED, Duration::ZERO), PluginEvent::Registered(_)));
        Self { session, books: Books::default(), watcher: Watcher::default(), now: Duration::ZERO }
    }

    pub(crate) fn step(&mut self, step: &Step) {
        match step {
            Step::Does(does) => self.act(does),
            Step::Arrives(hostile, spoilt) => {
                for text in spoil(self.books.frame(hostile, "b0b0b0b0-b0b0-8b0b"), spoilt) {
                    self.receive(&text);
                }
            }
        }
        assert_eq!(self.session.asked(), self.books.open(), "no waiter leaks");
    }

    pub(crate) fn act(&mut self, does: &Does) {
        match does {
            Does::Request { stream, credit } => {
                let waiter = self.books.enter();
                let at = waiter.0;
                let request = Request {
                    stream: *stream,
                    credit: *credit,
                    ..Request::new("a.b".parse().unwrap(), RawJson::EMPTY_OBJECT)
                };
                match self.session.start(request, waiter) {
                    Ok(id) => self.books.started(at, id, stream.then(|| credit.unwrap_or(CREDIT))),
                    Err(refused) => assert_eq!(refused.waiter, Waiter(at)),
                }
            }
            Does::Cancel(index) => {
                let Some((at, id)) = self.books.pick(*index) else { return };
                let given_up = self.session.cancel(&id, CancelReason::CallerGone, self.now);
                self.books.cancelled(at, given_up);
            }
            Does::Credit(index, n) => {
                let Some((at, id)) = self.books.pick(*index) else { return };
                self.session.credit(&id, *n);
                self.books.asked[at].granted += u64::from(*n);
            }
            Does::Answer(named, succeeds) => {
                let id = id(&self.books.name(named, "b0b0b0b0-b0b0-8b0b"));
                self.session.answer(&id, outcome(*succeeds));
            }
            Does::Chunk(named, bytes) => {
                let id = id(&self.books.name(named, "b0b0b0b0-b0b0-8b0b"));
                let _ = self.session.send_chunk(&id, text_of(*bytes));
            }
            Does::Write(frames) => {
                for _ in 0..*frames {
                    let Some(text) = self.session.next_frame() else { break };
                    self.watcher.written::<PluginMessage>(&text);
                }
            }
            Does::Push => self.session.say(&health()),
            Does::Wait(milliseconds) => self.now += Duration::from_millis(u64::from(*milliseconds)),
            // A plugin is told to drain; it does not do so of itself.
            Does::Drain => self.receive(DRAIN),
            Does::End => self.end(),
        }
    }

    pub(crate) fn receive(&mut self, text: &str) {
        self.books.arriving = addressed(text);
        let bytes_before = self.session.waiting_bytes();
        let mut request_dropped = false;
        match self.session.receive(text, self.now) {
            PluginEvent::Answered { waiter, outcome } => self.books.answered(&waiter, &outcome),
            PluginEvent::Released { waiter } => self.books.released(&waiter),
            PluginEvent::Chunk { waiter, .. } => self.books.chunk(waiter),
            PluginEvent::Broken { waiter, .. } => self.books.broken(waiter),
            PluginEvent::Request(request) => self.watcher.admitted(&request, CREDIT),
            PluginEvent::MayStream(id) => {
                let Ok(Decoded::Message(HostMessage::Credit(credit))) = HostMessage::decode(text) else {
                    panic!("only a credit lets a stream go on")
                };
                self.watcher.credited(&id, credit.n);
            }
            PluginEvent::Dropped(Dropped::Unreadable) => request_dropped = true,
            PluginEvent::Registered(_) | PluginEvent::Rejected(_) => panic!("a session registers once"),
            _ => {}
        }
        if request_dropped && self.session.waiting_bytes() > bytes_before {
            let (id, _) = self.books.arriving.clone().expect("it named its request");
            self.watcher.refused(&id);
        }
    }

    pub(crate) fn end(&mut self) {
        let (lost, owed) = self.session.end();
        for lost in lost {
            self.books.comes_out(&lost.waiter);
        }
        for id in owed {
            self.watcher.abandoned(&id);
        }
    }

    pub(crate) fn finish(mut self) {
        self.end();
        assert_eq!((self.session.asked(), self.session.owed()), (0, 0));
        assert!(
            self.books.asked.iter().all(|asked| asked.out || asked.id.is_none()),
            "every waiter comes out"
        );
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Joint {
    /// One side asks; what the other will do with it is in the request's payload.
    Ask {
        by: Side,
        chunks: u8,
        fails: bool,
        credit: Option<u32>,
    },
    Cancel {
        by: Side,
        which: Index,
    },
    /// One side works at one of the requests it has: sends a chunk, or the answer when none is left.
    Work {
        by: Side,
        which: Index,
    },
    /// One side's socket takes frames.
    Write {
        by: Side,
        frames: u8,
    },
    /// Frames arrive at one side.
    Read {
        by: Side,
        frames: u8,
    },
    Beat,
    Drain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Plugin,
}

pub(crate) fn joint_step() -> impl Strategy<Value = Joint> {
    let side = || prop_oneof![Just(Side::Host), Just(Side::Plugin)];
    prop_oneof![
        20 => (side(), 0..6_u8, any::<bool>(), proptest::option::of(0..4_u32))
            .prop_map(|(by, chunks, fails, credit)| Joint::Ask { by, chunks, fails, credit }),
        10 => (side(), any::<Index>()).prop_map(|(by, which)| Joint::Cancel { by, which }),
        60 => (side(), any::<Index>()).prop_map(|(by, which)| Joint::Work { by, which }),
        40 => (side(), 1..5_u8).prop_map(|(by, frames)| Joint::Write { by, frames }),
        40 => (side(), 1..5_u8).prop_map(|(by, frames)| Joint::Read { by, frames }),
        5 => Just(Joint::Beat),
        1 => Just(Joint::Drain),
    ]
}

/// A request that a side has taken on: how many chunks are still to come.
#[derive(Debug)]
pub(crate) struct Job {
    id: RequestId,
    next: u64,
    chunks: u64,
    fails: bool,
    cancelled: bool,
}

/// What one side's application keeps of its own requests: the chunks seen, and the one outcome.
#[derive(Debug, Default)]
pub(crate) struct Story {
    id: Option<RequestId>,
    chunks: u64,
    will_be: u64,
    fails: bool,
    given_up: bool,
    outcome: Option<&'static str>,
}

pub(crate) struct Joined {
    host: HostSession<usize>,
    plugin: PluginSession<usize>,
    to_plugin: VecDeque<String>,
    to_host: VecDeque<String>,
    stories: [Vec<Story>; 2],
    jobs: [Vec<Job>; 2],
    written: [Watcher; 2],
    draining: bool,
}

impl Joined {
    pub(crate) fn new() -> Self {
        let mut joined = Self {
            host: HostSession::new(HOST_SEED, limits(), None),
            plugin: PluginSession::new(PLUGIN_SEED, Register::new("echo".parse().unwrap())),
            to_plugin: VecDeque::new(),
            to_host: VecDeque::new(),
            stories: [Vec::new(), Vec::new()],
            jobs: [Vec::new(), Vec::new()],
            written: [Watcher::default(), Watcher::default()],
            draining: false,
        };
        // A beat that is due before anything was written must not come before `register`.
        joined.plugin.say(&health());
        joined.write(Side::Plugin, 1);
        let first = joined.to_host.pop_front().unwrap();
        assert!(matches!(joined.host.receive(&first, Duration::ZERO), HostEvent::Register(_)));
        joined.host.accept(Acceptance {
            instance: InstanceId::new(),
            resume: Secret::new("secret"),
            config: RawJson::EMPTY_OBJECT,
            config_revision: 1,
        });
        joined
    }

    pub(crate) fn step(&mut self, step: &Joint) {
        match step {
            Joint::Ask { by, chunks, fails, credit } => self.ask(*by, *chunks, *fails, *credit),
            Joint::Cancel { by, which } => self.cancel(*by, *which),
            Joint::Work { by, which } => {
                let jobs = self.jobs[*by as usize].len();
                if jobs > 0 {
                    self.work(*by, which.index(jobs));
                }
            }
            Joint::Write { by, frames } => self.write(*by, usize::from(*frames)),
            Joint::Read { by, frames } => {
                for _ in 0..*frames {
                    match by {
                        Side::Host => self.host_reads(),
                        Side::Plugin => self.plugin_reads(),
                    }
                }
            }
            Joint::Beat => self.plugin.say(&health()),
            Joint::Drain => {
                self.draining = true;
                for waiter in self.host.drain(Duration::from_secs(1)) {
                    self.settle(Side::Host, waiter, "retracted");
                }
            }
        }
    }

    pub(crate) fn ask(&mut self, by: Side, chunks: u8, fails: bool, credit: Option<u32>) {
        let waiter = self.stories[by as usize].len();
        let request = Request {
            stream: chunks > 0,
            credit: credit.filter(|_| chunks > 0),
            ..Request::new("a.b".parse().unwrap(), json!({ "chunks": chunks, "fails": fails }).into())
        };
        let mut story = Story { will_be: u64::from(chunks), fails, ..Story::default() };
        let started = match by {
            Side::Host => self.host.start(request, waiter),
            Side::Plugin => self.plugin.start(request, waiter),
        };
        match started {
            Ok(id) => {
                // A stream that starts without credit is granted some at once, before it is written.
                if chunks > 0 && credit == Some(0) {
                    match by {
                        Side::Host => self.host.credit(&id, 1),
                        Side::Plugin => self.plugin.credit(&id, 1),
                    }
                }
                story.id = Some(id);
            }
            Err(refused) => {
                assert_eq!(refused.waiter, waiter);
                story.outcome = Some("refused");
            }
        }
        self.stories[by as usize].push(story);
    }

    pub(crate) fn cancel(&mut self, by: Side, which: Index) {
        let stories = &mut self.stories[by as usize];
        if stories.is_empty() {
            return;
        }
        let waiter = which.index(stories.len());
        let Some(id) = stories[waiter].id.clone() else { return };
        let given_up = match by {
            Side::Host => self.host.cancel(&id, CancelReason::CallerGone, Duration::ZERO),
            Side::Plugin => self.plugin.cancel(&id, CancelReason::CallerGone, Duration::ZERO),
        };
        match given_up {
            GivenUp::Retracted(back) => {
                assert_eq!(back, waiter);
                self.settle(by, waiter, "retracted");
            }
            GivenUp::Told => self.stories[by as usize][waiter].given_up = true,
            GivenUp::Over => {}
        }
    }

    /// One step of a job: a chunk, or the answer when none is left to send.
    pub(crate) fn work(&mut self, by: Side, at: usize) {
        let job = &mut self.jobs[by as usize][at];
        if job.next < job.chunks && !job.cancelled {
            let data = RawJson::from(json!(job.next));
            let sent = match by {
                Side::Host => self.host.send_chunk(&job.id, data),
                Side::Plugin => self.plugin.send_chunk(&job.id, data),
            };
            match sent {
                Ok(()) => job.next += 1,
                Err(ChunkRefused::NoCredit) => {}
                Err(other) => panic!("an honest chunk is refused: {other}"),
            }
            return;
        }
        let job = self.jobs[by as usize].swap_remove(at);
        let outcome = outcome(!job.fails);
        let was_open = match by {
            Side::Host => self.host.answer(&job.id, outcome),
            Side::Plugin => self.plugin.answer(&job.id, outcome),
        };
        assert!(was_open, "a job is answered once");
    }

    pub(crate) fn write(&mut self, by: Side, most: usize) {
        for _ in 0..most {
            match by {
                Side::Host => {
                    let Some(text) = self.host.next_frame() else { return };
                    self.written[0].written::<HostMessage>(&text);
                    self.to_plugin.push_back(text);
                }
                Side::Plugin => {
                    let Some(text) = self.plugin.next_frame() else { return };
                    self.written[1].written::<PluginMessage>(&text);
                    self.to_host.push_back(text);
                }
            }
        }
    }

    pub(crate) fn host_reads(&mut self) {
        let Some(text) = self.to_host.pop_front() else { return };
        match self.host.receive(&text, Duration::ZERO) {
            HostEvent::Answered { waiter, outcome } => self.answered(Side::Host, waiter, outcome),
            HostEvent::Released { waiter } => self.settle(Side::Host, waiter, "released"),
            HostEvent::Chunk { waiter, data } => {
                let waiter = *waiter;
                self.chunk(Side::Host, waiter, &data);
            }
            HostEvent::Request(request) => self.take_on(Side::Host, *request),
            HostEvent::RequestCancelled(id) => self.stop(Side::Host, &id),
            HostEvent::MayStream(id) => self.credited(Side::Host, &id, &text),
            HostEvent::Health(_) => {}
            HostEvent::Dropped(Dropped::Late | Dropped::UnknownRequest) => self.is_crossing(&text),
            // The host takes so many requests of one plugin, and answers the rest at once.
            HostEvent::Dropped(Dropped::OutOfPlace) => {
                assert_eq!(self.host.owed(), MOST_FROM_PLUGIN as usize);
                let (id, _) = addressed(&text).unwrap();
                self.written[0].refused(&id);
            }
            other => panic!("an honest plugin causes {other:?}: {text}"),
        }
    }

    pub(crate) fn plugin_reads(&mut self) {
        let Some(text) = self.to_plugin.pop_front() else { return };
        match self.plugin.receive(&text, Duration::ZERO) {
            PluginEvent::Registered(_) | PluginEvent::Drain(_) => {}
            PluginEvent::Answered { waiter, outcome } => self.answered(Side::Plugin, waiter, outcome),
            PluginEvent::Released { waiter } => self.settle(Side::Plugin, waiter, "released"),
            PluginEvent::Chunk { waiter, data } => {
                let waiter = *waiter;
                self.chunk(Side::Plugin, waiter, &data);
            }
            PluginEvent::Request(request) => self.take_on(Side::Plugin, *request),
            PluginEvent::RequestCancelled { id, .. } => self.stop(Side::Plugin, &id),
            PluginEvent::MayStream(id) => self.credited(Side::Plugin, &id, &text),
            PluginEvent::Dropped(Dropped::Late | Dropped::UnknownRequest) => self.is_crossing(&text),
            other => panic!("an honest host causes {other:?}: {text}"),
        }
    }

    /// Only what crossed its request's end on the way may be dropped, never an answer.
    pub(crate) fn is_crossing(&self, text: &str) {
        let kind = serde_json::from_str::<Value>(text).unwrap()["type"].clone();
        assert!(["chunk", "cancel", "credit"].contains(&kind.as_str().unwrap()), "{text} is dropped");
    }

    pub(crate) fn take_on(&mut self, by: Side, request: Request) {
        self.written[by as usize].admitted(&request, CREDIT);
        let plan: Value = request.payload.read().unwrap();
        self.jobs[by as usize].push(Job {
            id: request.request_id,
            next: 0,
            chunks: plan["chunks"].as_u64().unwrap(),
            fails: plan["fails"].as_bool().unwrap(),
            cancelled: false,
        });
    }

    pub(crate) fn stop(&mut self, by: Side, id: &RequestId) {
        let job = self.jobs[by as usize].iter_mut().find(|job| job.id == *id);
        job.expect("a cancel belongs to a job").cancelled = true;
    }

    pub(crate) fn credited(&mut self, by: Side, id: &RequestId, text: &str) {
        let n = serde_json::from_str::<Value>(text).unwrap()["n"].as_u64().unwrap();
        self.written[by as usize].credited(id, u32::try_from(n).unwrap());
    }

    pub(crate) fn chunk(&mut self, by: Side, waiter: usize, data: &RawJson) {
        let story = &mut self.stories[by as usize][waiter];
        assert!(!story.given_up && story.outcome.is_none());
        assert_eq!(data.read::<u64>().unwrap(), story.chunks, "chunks arrive in order and once");
        story.chunks += 1;
        let id = story.id.clone().unwrap();
        match by {
            Side::Host => self.host.credit(&id, 1),
            Side::Plugin => self.plugin.credit(&id, 1),
        }
    }

    pub(crate) fn answered(&mut self, by: Side, waiter: usize, outcome: Result<RawJson, WireError>) {
        let story = &self.stories[by as usize][waiter];
        assert!(!story.given_up, "who gave up is not answered");
        match outcome {
            Ok(_) => {
                assert!(!story.fails);
                assert_eq!(story.chunks, story.will_be, "an answer comes after all its chunks");
            }
            Err(error) if error.code == ErrorCode::Overloaded.as_str() => assert_eq!(by, Side::Plugin),
            Err(error) => {
                assert!(story.fails, "{error}");
                assert_eq!(story.chunks, story.will_be);
            }
        }
        self.settle(by, waiter, "answered");
    }

    pub(crate) fn settle(&mut self, by: Side, waiter: usize, how: &'static str) {
        let story = &mut self.stories[by as usize][waiter];
        assert_eq!(story.outcome.replace(how), None, "a request has one outcome");
    }

    /// Lets everything that was begun come to its end, and checks that it does.
    pub(crate) fn finish(mut self) {
        let anything = |joined: &Self| {
            joined.host.waiting_bytes() + joined.plugin.waiting_bytes() > 0
                || !joined.to_host.is_empty()
                || !joined.to_plugin.is_empty()
                || joined.jobs.iter().any(|jobs| !jobs.is_empty())
        };
        // Each round moves every job by a chunk at least, so this bound is far above what is needed.
        for _ in 0..10_000 {
            if !anything(&self) {
                break;
            }
            for by in [Side::Host, Side::Plugin] {
                for at in (0..self.jobs[by as usize].len()).rev() {
                    self.work(by, at);
                }
                self.write(by, usize::MAX);
            }
            while !self.to_host.is_empty() {
                self.host_reads();
            }
            while !self.to_plugin.is_empty() {
                self.plugin_reads();
            }
        }
        assert!(!anything(&self), "what was begun comes to its end");
        for story in self.stories.iter().flatten() {
            assert!(story.outcome.is_some(), "every request has an outcome: {story:?}");
        }
        assert_eq!((self.host.in_flight(), self.host.owed()), (0, 0));
        assert_eq!((self.plugin.asked(), self.plugin.owed()), (0, 0));
        assert_eq!(self.plugin.is_drained(), self.draining);
    }
}

pub(crate) fn health() -> PluginMessage {
    PluginMessage::Health(Health { plugin: None, status: "up".to_owned(), detail: None })
}

pub(crate) fn id(text: &str) -> RequestId {
    let text = if text.is_empty() || text.len() > 128 { "none" } else { text };
    serde_json::from_value(json!(text)).unwrap()
}

pub(crate) fn outcome(succeeds: bool) -> Result<RawJson, WireError> {
    if succeeds { Ok(RawJson::NULL) } else { Err(WireError::new(ErrorCode::NotFound, "no such thing")) }
}

pub(crate) fn text_of(bytes: usize) -> RawJson {
    RawJson::from(json!("x".repeat(bytes)))
}

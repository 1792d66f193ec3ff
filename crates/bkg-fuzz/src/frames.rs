//! Frames as text: what is read can be written and read again, and no text at all makes a half of a
//! session write what its peer cannot read, or write without end.

use std::fmt::Debug;
use std::time::Duration;

use bkg_protocol::frame::{Decoded, Message};
use bkg_protocol::host::{Acceptance, HostEvent, HostSession};
use bkg_protocol::message::{Register, Secret};
use bkg_protocol::plugin::{PluginEvent, PluginSession};
use bkg_protocol::{HostMessage, InstanceId, Limits, PluginMessage, RawJson};

const HOST_SEED: u64 = 1;
const PLUGIN_SEED: u64 = 2;
/// How many frames one frame can lead to: its answer, and what waited for it.
const MOST_FRAMES_FOR_ONE: usize = 64;

/// One frame, read by either side.
pub(crate) fn frame(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    read_twice::<HostMessage>(text);
    read_twice::<PluginMessage>(text);
}

/// Whatever is read keeps its meaning when it is written and read again.
fn read_twice<M: Message + Debug + PartialEq>(text: &str) {
    let Ok(Decoded::Message(message)) = M::decode(text) else { return };
    let written = message.encode();
    match M::decode(&written) {
        Ok(Decoded::Message(again)) => assert_eq!(again, message, "written as {written}"),
        other => panic!("{message:?} was written as {written}, which reads as {other:?}"),
    }
}

/// Lines of text, each a frame for both halves.
pub(crate) fn session(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut host = Host::new();
    let mut plugin = Plugin::new();
    for (line, second) in text.lines().zip(0..) {
        let now = Duration::from_secs(second);
        host.receive(line, now);
        plugin.receive(line, now);
    }
}

struct Host(HostSession<()>);

impl Host {
    fn new() -> Self {
        Self(HostSession::new(HOST_SEED, Limits::default(), None))
    }

    fn receive(&mut self, line: &str, now: Duration) {
        if self.0.closing().is_some() {
            return;
        }
        match self.0.receive(line, now) {
            HostEvent::Register(_) => {
                self.0.accept(Acceptance {
                    instance: InstanceId::new(),
                    resume: Secret::new("secret"),
                    config: RawJson::EMPTY_OBJECT,
                    config_revision: 1,
                });
            }
            HostEvent::Request(request) => {
                self.0.answer(&request.request_id, Ok(RawJson::NULL));
            }
            _ => {}
        }
        write::<HostMessage>(|| self.0.next_frame());
    }
}

struct Plugin(PluginSession<()>);

impl Plugin {
    fn new() -> Self {
        let register = Register::new("echo".parse().expect("the name is one"));
        Self(PluginSession::new(PLUGIN_SEED, register))
    }

    fn receive(&mut self, line: &str, now: Duration) {
        if let PluginEvent::Request(request) = self.0.receive(line, now) {
            self.0.answer(&request.request_id, Ok(RawJson::NULL));
        }
        write::<PluginMessage>(|| self.0.next_frame());
    }
}

/// Takes what a half wants to write: the peer can read all of it, and there is an end.
fn write<M: Message + Debug>(mut next: impl FnMut() -> Option<String>) {
    for _ in 0..MOST_FRAMES_FOR_ONE {
        let Some(frame) = next() else { return };
        assert!(
            matches!(M::decode(&frame), Ok(Decoded::Message(_))),
            "what is written can be read: {frame}"
        );
    }
    panic!("one frame led to {MOST_FRAMES_FOR_ONE} others");
}

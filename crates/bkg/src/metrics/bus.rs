//! How many frames went over the plugin bus, and how many bytes, by direction and kind.
//!
//! Not whose they were. The invariant: kinds are those of the protocol; whatever else a plugin calls its
//! frames is `other`.

use bkg_protocol::host::DropCounts;

use super::number::Counter;
use super::requests::OTHER;

/// Frames of one direction.
#[derive(Debug)]
pub struct FrameFigures {
    kinds: Vec<KindFigures>,
}

/// Frames of one kind.
#[derive(Debug)]
pub struct KindFigures {
    /// The frame's `type`.
    pub kind: &'static str,
    /// How many.
    pub frames: Counter,
    /// How long their texts were together.
    pub bytes: Counter,
}

/// Both directions.
#[derive(Debug)]
pub struct BusFigures {
    /// What plugins sent.
    pub from_plugins: FrameFigures,
    /// What the host sent.
    pub to_plugins: FrameFigures,
    /// What plugins sent that had no effect.
    pub without_effect: WithoutEffect,
}

/// Frames of plugins that had no effect, by reason.
#[derive(Debug, Default)]
pub struct WithoutEffect {
    late: Counter,
    unknown_request: Counter,
    duplicate_request: Counter,
    unknown_type: Counter,
    out_of_place: Counter,
    unreadable: Counter,
}

impl WithoutEffect {
    /// What a session has counted grew.
    pub fn grew(&self, before: DropCounts, now: DropCounts) {
        for (count, before, now) in [
            (&self.late, before.late, now.late),
            (&self.unknown_request, before.unknown_request, now.unknown_request),
            (&self.duplicate_request, before.duplicate_request, now.duplicate_request),
            (&self.unknown_type, before.unknown_type, now.unknown_type),
            (&self.out_of_place, before.out_of_place, now.out_of_place),
            (&self.unreadable, before.unreadable, now.unreadable),
        ] {
            count.add(now.saturating_sub(before));
        }
    }

    /// How many there were, by reason.
    pub fn counts(&self) -> [(&'static str, u64); 6] {
        [
            ("late", self.late.get()),
            ("unknown_request", self.unknown_request.get()),
            ("duplicate_request", self.duplicate_request.get()),
            ("unknown_type", self.unknown_type.get()),
            ("out_of_place", self.out_of_place.get()),
            ("unreadable", self.unreadable.get()),
        ]
    }
}

impl Default for BusFigures {
    fn default() -> Self {
        // What is sent most stands first: it is found first.
        let from_plugins = [
            "chunk",
            "response",
            "log",
            "request",
            "health",
            "telemetry",
            "cancel",
            "credit",
            "register",
            "update",
            "subscribe",
            "unsubscribe",
            "publish",
            "configApplied",
            "authChanged",
        ];
        let to_plugins = [
            "request",
            "credit",
            "cancel",
            "response",
            "chunk",
            "event",
            "registered",
            "rejected",
            "updated",
            "config",
            "drain",
        ];
        Self {
            from_plugins: FrameFigures::new(&from_plugins),
            to_plugins: FrameFigures::new(&to_plugins),
            without_effect: WithoutEffect::default(),
        }
    }
}

impl FrameFigures {
    fn new(kinds: &[&'static str]) -> Self {
        let kinds = kinds.iter().copied().chain([OTHER]);
        let figures = |kind| KindFigures { kind, frames: Counter::default(), bytes: Counter::default() };
        Self { kinds: kinds.map(figures).collect() }
    }

    /// A frame passed.
    pub fn passed(&self, text: &str) {
        let kind = kind_of(text);
        let place =
            self.kinds.iter().position(|figures| figures.kind == kind).unwrap_or(self.kinds.len() - 1);
        let figures = &self.kinds[place];
        figures.frames.one();
        figures.bytes.add(text.len() as u64);
    }

    /// Every kind.
    pub fn kinds(&self) -> &[KindFigures] {
        &self.kinds
    }
}

/// The `type` of a frame that begins with it, as every known writer's does; of any other it is empty. The
/// frame is read elsewhere: here it must cost nothing.
fn kind_of(text: &str) -> &str {
    let rest = text.trim_start().strip_prefix('{').map(str::trim_start);
    let rest = rest.and_then(|rest| rest.strip_prefix("\"type\"")).map(str::trim_start);
    let rest = rest.and_then(|rest| rest.strip_prefix(':')).map(str::trim_start);
    let rest = rest.and_then(|rest| rest.strip_prefix('"')).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use bkg_protocol::frame::Message;
    use bkg_protocol::message::{HostMessage, PluginMessage};

    use super::*;

    #[test]
    fn a_frame_is_counted_by_its_type_or_as_another() {
        let figures = BusFigures::default();
        let frames = [
            r#"{"type":"chunk","seq":0}"#,
            r#" { "type" : "chunk" }"#,
            r#"{"seq":0,"type":"chunk"}"#,
            r#"{"type":"never heard of"}"#,
            r#"{"type"#,
            "",
        ];
        for frame in frames {
            figures.from_plugins.passed(frame);
        }
        let counted: Vec<_> = figures
            .from_plugins
            .kinds()
            .iter()
            .map(|kind| (kind.kind, kind.frames.get()))
            .filter(|(_, frames)| *frames > 0)
            .collect();
        assert_eq!(counted, [("chunk", 2), (OTHER, 4)]);
        assert_eq!(figures.from_plugins.kinds()[0].bytes.get(), (frames[0].len() + frames[1].len()) as u64);
    }

    #[test]
    fn every_frame_of_the_protocol_has_its_kind() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../bkg-protocol/golden/messages");
        let figures = BusFigures::default();
        let mut seen = 0;
        for (folder, direction) in
            [("plugin-to-host", &figures.from_plugins), ("host-to-plugin", &figures.to_plugins)]
        {
            for file in std::fs::read_dir(format!("{golden}/{folder}")).unwrap() {
                let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
                // As this host writes it, not as the file is laid out.
                let written = match folder {
                    "plugin-to-host" => encoded::<PluginMessage>(&text),
                    _ => encoded::<HostMessage>(&text),
                };
                let Some(written) = written else { continue };
                direction.passed(&written);
                seen += 1;
            }
            let others = direction.kinds().last().unwrap();
            assert_eq!(others.frames.get(), 0, "{folder}");
        }
        assert!(seen > 20, "{seen}");
    }

    fn encoded<M: Message>(text: &str) -> Option<String> {
        match M::decode(text).ok()? {
            bkg_protocol::frame::Decoded::Message(message) => Some(message.encode()),
            bkg_protocol::frame::Decoded::Unknown(_) => None,
        }
    }
}

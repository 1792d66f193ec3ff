//! What may stand after `run` and `chat`, as types.
//!
//! As in `arguments`, parsing is all that happens here.

use bkg_protocol::PluginName;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

/// An input for a plugin.
#[derive(Debug, Args)]
pub(super) struct RunRequest {
    /// The plugin
    pub(super) plugin: PluginName,
    /// The input: text, a JSON object or array, or `-` to read it from standard input [default: {}]
    #[arg(allow_hyphen_values = true)]
    pub(super) input: Option<String>,
    /// Hand it over as text, whatever it looks like
    #[arg(long)]
    pub(super) text: bool,
    /// How long the answer may take, in milliseconds [default: as long as the daemon allows]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(super) timeout_ms: Option<u64>,
}

/// A conversation with a model, or one question.
#[derive(Debug, Default, Args)]
pub(super) struct ChatRequest {
    /// The question; without one it is read from standard input, or a conversation begins if that is a
    /// terminal
    pub(super) prompt: Option<String>,
    /// The model [default: the first that the daemon lists for conversations]
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub(super) model: Option<String>,
    /// What the model is told before the conversation
    #[arg(short, long, value_name = "TEXT")]
    pub(super) system: Option<String>,
}

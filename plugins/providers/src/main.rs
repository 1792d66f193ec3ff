//! The providers plugin: `llm.chat` and `llm.embed`, answered by OpenAI-compatible upstreams.
//!
//! It connects to the addresses of its settings and to no other: nothing of a request becomes part of an
//! address. What it passes on it passes on unread but for what clients rely on.

mod chat;
mod chunk;
mod credential;
mod discovery;
mod embed;
mod failure;
mod gate;
mod members;
mod reply;
mod report;
mod rest;
mod roster;
mod settings;
mod split;
mod sse;
mod upstream;

use bkg_sdk::{Capability, Plugin, Settings};

use crate::roster::Roster;
use crate::settings::ProvidersSettings;

fn main() -> std::process::ExitCode {
    plugin().run()
}

fn plugin() -> Plugin {
    let settings = Settings::<ProvidersSettings>::default().check(|offered| async move { offered.check() });
    let roster = Roster::new(settings.clone());
    let (whole, streamed, embedded, reported) =
        (roster.clone(), roster.clone(), roster.clone(), roster.clone());
    let (looking, telling) = ((roster.clone(), settings.clone()), (roster, settings.clone()));
    Plugin::new()
        .version(env!("CARGO_PKG_VERSION"))
        .settings(&settings)
        // Without upstreams there is no model, also none under the plugin's own name.
        .meta("listsModels", true)
        .capability(
            Capability::new("llm.chat")
                .description("Answers a chat in the form of OpenAI's chat completions, through an upstream")
                .answer(move |request| chat::answer(request, whole.clone()))
                .stream(move |request, chunks| chat::stream(request, chunks, streamed.clone())),
        )
        .capability(
            Capability::new("llm.embed")
                .description(
                    "Turns text into vectors in the form of OpenAI's embeddings, through an upstream",
                )
                .answer(move |request| embed::answer(request, embedded.clone())),
        )
        .capability(
            Capability::new("providers.upstreams")
                .description("How each upstream is, and which models it has")
                .idempotent()
                .answer(move |request| report::answer(request, reported.clone())),
        )
        .background(move |host| discovery::keep_current(host, looking.0, looking.1))
        .background(move |host| report::keep_telling(host, telling.0, telling.1))
}

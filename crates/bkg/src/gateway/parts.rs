//! A chat's answer as a row of parts, told one after the other: reasoning, text, refusal, tool calls.
//!
//! It eats the chunks of a chat, however its plugin split them, and says what begins, grows and ends. The
//! invariants: parts come in the order in which they first appeared, one is over before the next begins, and
//! how chunks were cut changes nothing but how often a part grows. The translations stand on it.

use bkg_protocol::RawJson;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::chat;
use crate::error::Problem;

/// What a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the model says to itself.
    Reasoning,
    /// What it says.
    Text,
    /// Why it says nothing.
    Refusal,
    /// A function that it wants called.
    Call {
        /// Its id, to which the result will refer.
        id: String,
        /// The function.
        name: String,
    },
}

/// What a chunk brought.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    Begins(Kind),
    /// More text of the part that began last; of a call, more of its arguments.
    Grows {
        text: String,
        logprobs: Vec<Value>,
    },
    Ends,
}

/// What a chat says beside its parts.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Since 1970, in seconds.
    pub(super) created: Option<i64>,
    pub(super) model: Option<String>,
    pub(super) service_tier: Option<Value>,
    pub(super) finish: Option<Finish>,
    /// The stop sequence that was met, where a server says so.
    pub(super) stopped_by: Option<String>,
    pub(super) usage: Option<Usage>,
}

/// Why a model went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Finish {
    Length,
    ContentFilter,
    #[serde(alias = "function_call")]
    ToolCalls,
    /// It had said all; also for words that are not OpenAI's.
    #[serde(other)]
    Stop,
}

/// How many tokens were used, as a chat counts them: details are parts of their sums.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) prompt: u64,
    /// Those of the prompt that were read from a cache.
    pub(super) cached: u64,
    /// Those of the prompt that were written to a cache.
    pub(super) cache_written: u64,
    pub(super) completion: u64,
    /// Those of the completion that the model said to itself.
    pub(super) reasoning: u64,
    pub(super) total: u64,
}

/// The parts of one answer.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) facts: Facts,
    /// What ids of calls are made of, for plugins that give none.
    seed: String,
    parts: Vec<Part>,
    /// Which of them is being told.
    telling: usize,
}

#[derive(Debug)]
struct Part {
    kind: Kind,
    /// The index by which fragments name their call.
    index: Option<u64>,
    /// All arguments of a call so far.
    arguments: String,
    untold: String,
    untold_logprobs: Vec<Value>,
    begun: bool,
}

impl Parts {
    pub(super) fn new(seed: &str) -> Self {
        Self { facts: Facts::default(), seed: seed.to_owned(), parts: Vec::new(), telling: 0 }
    }

    /// Takes one chunk in.
    pub(super) fn chunk(&mut self, chunk: &RawJson, steps: &mut Vec<Step>) -> Result<(), Problem> {
        let chunk: Chunk = chunk.read().map_err(|error| chat::no_completion(&error.to_string()))?;
        let facts = &mut self.facts;
        facts.created = facts.created.or(chunk.created.as_ref().and_then(Value::as_i64));
        facts.model = facts.model.take().or(chunk.model.filter(|model| !model.is_empty()));
        facts.service_tier = chunk.service_tier.or(facts.service_tier.take());
        if let Some(usage) = chunk.usage {
            facts.usage = Some(usage.counted());
        }
        for choice in chunk.choices.into_iter().flatten().filter(|choice| choice.index == 0) {
            self.choice(choice)?;
        }
        self.tell(steps);
        Ok(())
    }

    /// The chat has ended well: whatever was held back is told.
    pub(super) fn end(&mut self, steps: &mut Vec<Step>) -> Result<(), Problem> {
        for part in self.parts.iter_mut().skip(self.telling) {
            if matches!(&part.kind, Kind::Call { name, .. } if name.is_empty()) {
                return Err(chat::no_completion("a tool call has no name"));
            }
            part.tell(steps);
            steps.push(Step::Ends);
        }
        self.telling = self.parts.len();
        Ok(())
    }

    /// Why the model went no further; tool calls that were told are a reason of their own.
    pub(super) fn finish(&self) -> Finish {
        let calls = self.parts.iter().any(|part| matches!(part.kind, Kind::Call { .. }));
        match self.facts.finish {
            None | Some(Finish::Stop) if calls => Finish::ToolCalls,
            finish => finish.unwrap_or(Finish::Stop),
        }
    }

    fn choice(&mut self, choice: Choice) -> Result<(), Problem> {
        let delta = choice.delta.unwrap_or_default();
        self.grow(Kind::Reasoning, &delta.reasoning_content.or(delta.reasoning), Vec::new())?;
        let logprobs = choice.logprobs.and_then(|logprobs| logprobs.content).unwrap_or_default();
        self.grow(Kind::Text, &delta.content, logprobs)?;
        self.grow(Kind::Refusal, &delta.refusal, Vec::new())?;
        for fragment in delta.tool_calls.into_iter().flatten() {
            self.call(fragment)?;
        }
        if choice.finish_reason.is_some() {
            self.facts.finish = choice.finish_reason;
        }
        if let Some(Value::String(sequence)) = choice.stop_reason {
            self.facts.stopped_by = Some(sequence);
        }
        Ok(())
    }

    /// More of the last part if it is of this kind, else a new part.
    fn grow(&mut self, kind: Kind, said: &Option<Value>, logprobs: Vec<Value>) -> Result<(), Problem> {
        let text = match said {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(pieces)) => {
                pieces.iter().filter_map(|piece| piece["text"].as_str()).collect()
            }
            Some(_) => return Err(chat::no_completion("its text is neither text nor a list")),
        };
        if text.is_empty() {
            return Ok(());
        }
        let part = match self.parts.last_mut() {
            Some(last) if last.kind == kind => last,
            _ => self.begin(kind, None),
        };
        part.untold.push_str(&text);
        part.untold_logprobs.extend(logprobs);
        Ok(())
    }

    fn begin(&mut self, kind: Kind, index: Option<u64>) -> &mut Part {
        self.parts.push(Part {
            kind,
            index,
            arguments: String::new(),
            untold: String::new(),
            untold_logprobs: Vec::new(),
            begun: false,
        });
        self.parts.last_mut().expect("one was added")
    }

    fn call(&mut self, fragment: Fragment) -> Result<(), Problem> {
        let function = fragment.function.unwrap_or_default();
        let named = function.name.filter(|name| !name.is_empty());
        let given_id = fragment.id.filter(|id| !id.is_empty());
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            // Some servers write the arguments out.
            Some(value) => value.to_string(),
        };
        let known = self.parts.iter().rposition(|part| match &part.kind {
            Kind::Call { id, name } => {
                // Some servers give all calls the same index; an id and a name then say that it is another.
                let another = named.is_some()
                    && !name.is_empty()
                    && given_id.as_ref().is_some_and(|given| given != id);
                !another && (fragment.index.is_none() || part.index == fragment.index)
            }
            _ => false,
        });
        let position = known.unwrap_or_else(|| {
            let id = format!("call_{}_{}", self.seed, self.parts.len());
            self.begin(Kind::Call { id, name: String::new() }, fragment.index);
            self.parts.len() - 1
        });
        let over = position < self.telling;
        let part = &mut self.parts[position];
        if let Kind::Call { id, name } = &mut part.kind
            && !part.begun
        {
            if let Some(given) = given_id {
                *id = given;
            }
            if let Some(named) = named {
                *name = named;
            }
        }
        if over && !arguments.trim().is_empty() {
            return Err(chat::no_completion("a tool call goes on after its arguments were whole"));
        }
        if !over {
            part.arguments.push_str(&arguments);
            part.untold.push_str(&arguments);
        }
        Ok(())
    }

    /// Tells what can be told: a part that others follow as soon as it is over.
    fn tell(&mut self, steps: &mut Vec<Step>) {
        while let Some(part) = self.parts.get_mut(self.telling) {
            if matches!(&part.kind, Kind::Call { name, .. } if name.is_empty()) {
                return;
            }
            part.tell(steps);
            if !part.is_over() || self.telling + 1 == self.parts.len() {
                return;
            }
            let part = &mut self.parts[self.telling];
            part.arguments = String::new();
            steps.push(Step::Ends);
            self.telling += 1;
        }
    }
}

impl Part {
    fn tell(&mut self, steps: &mut Vec<Step>) {
        if !self.begun {
            self.begun = true;
            steps.push(Step::Begins(self.kind.clone()));
        }
        if !self.untold.is_empty() {
            let text = std::mem::take(&mut self.untold);
            steps.push(Step::Grows { text, logprobs: std::mem::take(&mut self.untold_logprobs) });
        }
    }

    /// Whether nothing more of it can come once another part has begun. Fragments of several calls may come
    /// in turns, so a call is over only when its arguments are whole.
    fn is_over(&self) -> bool {
        match self.kind {
            Kind::Call { .. } => {
                self.arguments.trim_end().ends_with('}')
                    && serde_json::from_str::<IgnoredAny>(&self.arguments).is_ok()
            }
            Kind::Reasoning | Kind::Text | Kind::Refusal => true,
        }
    }
}

#[derive(Deserialize)]
struct Chunk {
    created: Option<Value>,
    model: Option<String>,
    service_tier: Option<Value>,
    choices: Option<Vec<Choice>>,
    usage: Option<WireUsage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    delta: Option<Delta>,
    finish_reason: Option<Finish>,
    logprobs: Option<Logprobs>,
    /// vLLM: the stop sequence that was met, or the number of a token.
    stop_reason: Option<Value>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<Value>,
    refusal: Option<Value>,
    /// DeepSeek's name, which vLLM, llama.cpp and others have too.
    reasoning_content: Option<Value>,
    /// The name of OpenRouter, Ollama and newer vLLM.
    reasoning: Option<Value>,
    tool_calls: Option<Vec<Fragment>>,
}

#[derive(Deserialize)]
struct Fragment {
    index: Option<u64>,
    id: Option<String>,
    function: Option<Function>,
}

#[derive(Default, Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<Value>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct WireUsage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    total_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl WireUsage {
    fn counted(self) -> Usage {
        let (prompt, completion) = (self.prompt_tokens.unwrap_or(0), self.completion_tokens.unwrap_or(0));
        let read = self.prompt_tokens_details.unwrap_or_default();
        let written = self.completion_tokens_details.unwrap_or_default();
        Usage {
            prompt,
            cached: read.cached_tokens.unwrap_or(0),
            cache_written: read.cache_write_tokens.unwrap_or(0),
            completion,
            reasoning: written.reasoning_tokens.unwrap_or(0),
            total: self.total_tokens.unwrap_or(prompt.saturating_add(completion)),
        }
    }
}

//! What the routes below `/v1` take and answer, as types for the reference.
//!
//! Not what travels: bodies pass through as their sender wrote them, and these types name only the
//! members that the host itself reads or that an OpenAI client relies on. Everything else is open.

use schemars::JsonSchema;
use serde_json::{Map, Value};

/// Types that only say what travels: nobody makes a value of them.
macro_rules! shapes {
    ($($(#[$attribute:meta])* $name:ident { $($(#[$member:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            #[derive(JsonSchema)]
            #[allow(dead_code, reason = "a type for the reference alone")]
            $(#[$attribute])*
            pub(super) struct $name { $($(#[$member])* $field: $type,)* }
        )*
    };
}

shapes! {
    /// A chat that is to be completed. Members that are not named here reach the plugin as they are.
    #[schemars(extend("additionalProperties" = true))]
    ChatRequest {
        /// One of `/v1/models`.
        model: String,
        /// The messages so far.
        messages: Vec<Map<String, Value>>,
        /// Whether the answer comes in chunks.
        stream: Option<bool>,
        /// What a stream has besides.
        stream_options: Option<StreamOptions>,
    }

    /// A text that is to be completed. Members that are not named here reach the plugin as they are.
    #[schemars(extend("additionalProperties" = true))]
    CompletionRequest {
        /// One of `/v1/models`.
        model: String,
        /// The text so far.
        prompt: Prompt,
        /// Whether the answer comes in chunks.
        stream: Option<bool>,
        /// What a stream has besides.
        stream_options: Option<StreamOptions>,
    }

    /// What a stream has besides.
    #[schemars(extend("additionalProperties" = true))]
    StreamOptions {
        /// Whether the last chunk says what was used.
        include_usage: Option<bool>,
    }

    /// Texts that are to be embedded. Members that are not named here reach the plugin as they are.
    #[schemars(extend("additionalProperties" = true))]
    EmbeddingRequest {
        /// One of `/v1/models`.
        model: String,
        /// What is to be embedded.
        input: Input,
        /// How vectors are written; `float` unless said.
        encoding_format: Option<Encoding>,
    }

    /// A completion, as the plugin wrote it, or one chunk of it.
    #[schemars(extend("additionalProperties" = true))]
    Completion {
        /// Its id, the same in all chunks.
        id: String,
        /// `chat.completion`, `chat.completion.chunk` or `text_completion`.
        object: String,
        /// When it was made, in seconds since 1970.
        created: i64,
        /// Which model answered.
        model: String,
        /// The answers.
        choices: Vec<Map<String, Value>>,
        /// How many tokens were used.
        #[schemars(skip_serializing_if = "Option::is_none")]
        usage: Option<Map<String, Value>>,
    }

    /// What a response is wanted of. Members that are not named here are passed on if a chat knows them, and
    /// refused by name otherwise.
    #[schemars(extend("additionalProperties" = true))]
    ResponseRequest {
        /// One of `/v1/models`.
        model: String,
        /// The conversation so far: a text, or all its items.
        input: ResponseInput,
        /// What the model is told first.
        instructions: Option<String>,
        /// Whether the answer comes as events.
        stream: Option<bool>,
        /// The functions that the model may want called.
        tools: Option<Vec<Map<String, Value>>>,
        /// How many tokens the answer may have.
        max_output_tokens: Option<u64>,
        /// Nothing is kept: only false can be honoured.
        store: Option<bool>,
    }

    /// A response, or one event on its way.
    #[schemars(extend("additionalProperties" = true))]
    ModelResponse {
        /// Its id.
        id: String,
        /// `response`.
        object: String,
        /// When it was made, in seconds since 1970.
        created_at: i64,
        /// `completed`, or `incomplete` for `incomplete_details`.
        status: String,
        /// Which model answered.
        model: String,
        /// What it said, thought and wants called.
        output: Vec<Map<String, Value>>,
        /// How many tokens were used; null if the plugin does not say.
        usage: Option<Map<String, Value>>,
    }

    /// An event of a response.
    #[schemars(extend("additionalProperties" = true))]
    ResponseEvent {
        /// What happened; the name of the event.
        r#type: String,
        /// Which event it is, from 0.
        sequence_number: u64,
    }

    /// What a message is wanted of. Members that are not named here are passed on if a chat knows them, and
    /// refused by name otherwise.
    #[schemars(extend("additionalProperties" = true))]
    MessageRequest {
        /// One of `/v1/models`.
        model: String,
        /// The conversation so far.
        #[schemars(length(min = 1))]
        messages: Vec<Map<String, Value>>,
        /// How many tokens the answer may have.
        #[schemars(range(min = 1))]
        max_tokens: u64,
        /// Whether the answer comes as events.
        stream: Option<bool>,
        /// The tools that the model may want used.
        tools: Option<Vec<Map<String, Value>>>,
        /// Texts at which the model stops.
        stop_sequences: Option<Vec<String>>,
    }

    /// What is to be counted: a request for a message without what bounds its answer.
    #[schemars(extend("additionalProperties" = true))]
    CountRequest {
        /// One of `/v1/models`.
        model: String,
        /// The conversation so far.
        #[schemars(length(min = 1))]
        messages: Vec<Map<String, Value>>,
        /// The tools that the model may want used.
        tools: Option<Vec<Map<String, Value>>>,
    }

    /// A message of the model.
    #[schemars(extend("additionalProperties" = true))]
    ModelMessage {
        /// Its id.
        id: String,
        /// `message`.
        r#type: String,
        /// `assistant`.
        role: String,
        /// Which model answered.
        model: String,
        /// What it said, thought and wants used.
        content: Vec<Map<String, Value>>,
        /// Why it went no further.
        stop_reason: Option<String>,
        /// How many tokens were used.
        usage: Map<String, Value>,
    }

    /// An event of a message.
    #[schemars(extend("additionalProperties" = true))]
    MessageEvent {
        /// What happened; the name of the event.
        r#type: String,
    }

    /// Vectors.
    Embeddings {
        /// `list`.
        object: String,
        /// One for each input.
        data: Vec<Embedding>,
        /// Which model answered.
        model: Value,
        /// How many tokens were used.
        usage: Value,
    }

    /// A vector.
    Embedding {
        /// `embedding`.
        object: String,
        /// Which input it belongs to.
        index: u64,
        /// The vector.
        embedding: Vector,
    }
}

/// A text that is to be gone on with.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "a type for the reference alone")]
enum Prompt {
    /// The text.
    Text(String),
    /// A list with the text alone.
    List(#[schemars(length(equal = 1))] Vec<String>),
}

/// A text, or items.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "a type for the reference alone")]
enum ResponseInput {
    /// What the user says.
    Text(String),
    /// The items of the conversation.
    Items(Vec<Map<String, Value>>),
}

/// A text, texts, a token list or token lists.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "a type for the reference alone")]
enum Input {
    Text(String),
    Texts(#[schemars(length(min = 1))] Vec<String>),
    Tokens(#[schemars(length(min = 1))] Vec<u32>),
    TokenLists(#[schemars(length(min = 1), inner(length(min = 1)))] Vec<Vec<u32>>),
}

/// How vectors are written.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase", inline)]
#[allow(dead_code, reason = "a type for the reference alone")]
enum Encoding {
    /// As numbers.
    Float,
    /// As base64 of little-endian 32-bit floats.
    Base64,
}

/// A vector, as numbers or as base64 of little-endian 32-bit floats.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[allow(dead_code, reason = "a type for the reference alone")]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

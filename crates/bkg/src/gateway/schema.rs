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

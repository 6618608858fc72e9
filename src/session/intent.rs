//! What kind of request this is, and what its sender may do.

/// What a request wants, as far as a session that is not ready is concerned.
///
/// The columns of the table in [`crate::activator::verdict`]. `gateway::intent` reads it off the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intent {
    /// A person opens an address: gets pages, may start a session.
    Navigation,
    /// A form is sent by navigating: gets the page, starts nothing, since its body would be lost.
    Submission,
    /// A program without a page: is held until the session is there.
    Api,
    /// A fetch, script, image or style of a page: never starts a session that was stopped.
    Asset,
    /// A websocket opened by a page's script.
    PageSocket,
    /// A websocket opened by a program.
    ApiSocket,
    /// `HEAD`, `OPTIONS`, a prefetch or a link preview: looks, and must change nothing.
    Passive,
}

impl Intent {
    /// Every kind, for tables.
    pub const ALL: [Self; 7] = [
        Self::Navigation,
        Self::Submission,
        Self::Api,
        Self::Asset,
        Self::PageSocket,
        Self::ApiSocket,
        Self::Passive,
    ];

    /// Whether the answer is a page for a person, not a problem document for a program.
    #[must_use]
    pub fn wants_page(self) -> bool {
        matches!(self, Self::Navigation | Self::Submission)
    }

    /// Whether this is the handshake of a websocket.
    #[must_use]
    pub fn is_socket(self) -> bool {
        matches!(self, Self::PageSocket | Self::ApiSocket)
    }
}

/// What the sender of a request may do. Made by the guard only, so whoever holds one has passed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Whether it may start and stop sessions, not only use those that run.
    pub spawn: bool,
}

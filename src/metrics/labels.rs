//! The closed lists that are labels.

/// Makes an enum whose variants are labels, and the list of these.
macro_rules! labels {
    ($(#[$about:meta])* $name:ident { $($(#[$what:meta])* $variant:ident = $label:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$what])* $variant,)*
        }

        impl $name {
            /// The labels, by the number of their variant.
            pub(super) const ALL: [&'static str; [$($label),*].len()] = [$($label),*];
        }
    };
}

labels! {
    /// How a connection of a client ended, as far as HTTP is concerned: a websocket's socket lives on.
    End {
        /// In order, by either side.
        Closed = "closed",
        /// It became a websocket.
        Upgraded = "upgraded",
        /// The socket failed, or the client left in the middle of something.
        Broken = "broken",
        /// What came was no HTTP.
        Malformed = "malformed",
        /// A head larger than `limits.head`, or with too many fields.
        Head = "head",
        /// There are `limits.connections` already.
        Connections = "connections",
        /// There are `limits.connections_per_client` already.
        PerClient = "connections_per_client",
        /// Whoever connected is none of `trusted_proxies`, and only these may.
        Stranger = "stranger",
        /// No header of the PROXY protocol came, or none that is valid.
        Proxy = "proxy_protocol",
        /// The handshake of TLS failed.
        Tls = "tls",
        /// No whole head came within `timeouts.handshake`.
        Handshake = "handshake",
        /// There was no request for `timeouts.idle`, or on HTTP/2 for minutes.
        Idle = "idle",
        /// The client of HTTP/2 did not answer a ping.
        Ping = "ping",
        /// The client took no byte of an answer for `timeouts.write`.
        Write = "write",
        /// Cut at the end of the process.
        Shutdown = "shutdown",
    }
}

labels! {
    /// How a tunnel ended.
    TunnelEnd {
        /// Both sides ended it.
        Closed = "closed",
        /// A socket failed.
        Broken = "broken",
        /// One side ended, and the other was silent.
        Half = "half",
        /// Nothing moved for `timeouts.websocket`.
        Silent = "silent",
        /// The session ended.
        Session = "session",
        /// The gateway ended.
        Shutdown = "shutdown",
    }
}

labels! {
    /// Who is to blame for an answer that was cut.
    Cut {
        /// The client took no byte of it for `timeouts.write`.
        Client = "client",
        /// The service broke it off.
        Service = "service",
        /// The session ended.
        Session = "session",
    }
}

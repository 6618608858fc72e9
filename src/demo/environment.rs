//! What a service learns from its environment. The contract is the one every command of a session has.

use std::{
    env::VarError,
    ffi::OsString,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// The variables of a service's process, read once and checked.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `HOST`: the address to listen on; 127.0.0.1 unless set.
    pub host: IpAddr,
    /// `PORT`: required; 0 takes a free one.
    pub port: u16,
    /// `BASE_PATH`: the public path of this service without its last slash; empty when run by hand.
    pub base_path: String,
    /// `SESSION_UUID`, `PROJECT_ID`, `USER_ID`: shown to people, never used to decide anything.
    pub session: Option<String>,
    /// See `session`.
    pub project: Option<String>,
    /// See `session`.
    pub user: Option<String>,
    /// `WORKSPACE`: the folder with the session's files; the current one unless set.
    pub workspace: PathBuf,
    /// `PREVIEW_BASE_PATH`: where the session's preview is, if it has one.
    pub preview: Option<String>,
    /// `CHAT_BASE_PATH`: where the session's chat is.
    pub chat: Option<String>,
    /// `VSCODE_BASE_PATH`: where the session's editor is.
    pub vscode: Option<String>,
    /// `PATH`: where code-server and its Node are looked for.
    pub path: OsString,
}

/// Why a service cannot run in this environment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable without which there is nothing to do.
    #[error("{name} is not set: {hint}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A variable with a value that cannot be meant.
    #[error("{name} is {value:?}, which is not {expected}")]
    Wrong {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
}

impl Environment {
    /// Reads this process's environment.
    /// # Errors
    /// `PORT` is missing, or a variable has a value that cannot be meant.
    #[expect(
        clippy::disallowed_methods,
        reason = "the contract of a session's child process, not a setting of the gateway"
    )]
    pub fn read() -> Result<Self, EnvironmentError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        Self::parse(std::env::var, path)
    }

    fn parse(
        variable: impl Fn(&'static str) -> Result<String, VarError>,
        path: OsString,
    ) -> Result<Self, EnvironmentError> {
        let text = |name| match variable(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(VarError::NotUnicode(value)) => Err(wrong(name, value.to_string_lossy(), "UTF-8")),
        };
        let base = |name| text(name)?.map(|value| base_path(name, &value)).transpose();
        let port = text("PORT")?.ok_or(EnvironmentError::Missing {
            name: "PORT",
            hint: "say where to listen, as in PORT=3000",
        })?;
        let host = text("HOST")?;
        Ok(Self {
            host: match &host {
                Some(host) => host
                    .parse()
                    .map_err(|_| wrong("HOST", host, "an IP address"))?,
                None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            },
            port: port
                .parse()
                .map_err(|_| wrong("PORT", &port, "a port number"))?,
            base_path: base("BASE_PATH")?.unwrap_or_default(),
            session: text("SESSION_UUID")?,
            project: text("PROJECT_ID")?,
            user: text("USER_ID")?,
            workspace: text("WORKSPACE")?.unwrap_or_else(|| ".".to_owned()).into(),
            preview: base("PREVIEW_BASE_PATH")?,
            chat: base("CHAT_BASE_PATH")?,
            vscode: base("VSCODE_BASE_PATH")?,
            path,
        })
    }
}

fn wrong(name: &'static str, value: impl AsRef<str>, expected: &'static str) -> EnvironmentError {
    EnvironmentError::Wrong {
        name,
        value: value.as_ref().to_owned(),
        expected,
    }
}

/// A public path without its last slash. Only characters that mean nothing in HTML, in a URL and in a route pattern
/// pass, so that the rest of the code can write it anywhere.
fn base_path(name: &'static str, value: &str) -> Result<String, EnvironmentError> {
    let path = value.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if path.is_empty() || (path.starts_with('/') && !path.contains("//") && path.chars().all(plain))
    {
        Ok(path.to_owned())
    } else {
        Err(wrong(
            name,
            value,
            "a path like /abc/preview of letters, digits and -._~",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(set: &[(&str, &str)]) -> Result<Environment, EnvironmentError> {
        let variable = |name: &'static str| {
            let found = set.iter().find(|(key, _)| *key == name);
            found
                .map(|(_, value)| (*value).to_owned())
                .ok_or(VarError::NotPresent)
        };
        Environment::parse(variable, OsString::new())
    }

    #[test]
    fn a_port_is_enough_to_run_by_hand() {
        let environment = parse(&[("PORT", "3000"), ("BASE_PATH", "")]).unwrap();
        assert_eq!(environment.port, 3000);
        assert_eq!(environment.host.to_string(), "127.0.0.1");
        assert_eq!(environment.base_path, "");
        assert_eq!(environment.workspace, PathBuf::from("."));
    }

    #[test]
    fn base_paths_lose_their_last_slash() {
        let environment = parse(&[
            ("PORT", "1"),
            ("BASE_PATH", "/a/preview/"),
            ("VSCODE_BASE_PATH", "/a/vscode"),
        ]);
        let environment = environment.unwrap();
        assert_eq!(environment.base_path, "/a/preview");
        assert_eq!(environment.vscode.as_deref(), Some("/a/vscode"));
        assert_eq!(environment.chat, None);
    }

    #[test]
    fn errors_name_the_variable_and_what_it_should_hold() {
        let message = |set: &[(&str, &str)]| parse(set).unwrap_err().to_string();
        assert_eq!(
            message(&[]),
            "PORT is not set: say where to listen, as in PORT=3000"
        );
        assert_eq!(
            message(&[("PORT", "70000")]),
            "PORT is \"70000\", which is not a port number"
        );
        assert_eq!(
            message(&[("PORT", "1"), ("HOST", "here")]),
            "HOST is \"here\", which is not an IP address"
        );
        for path in ["preview", "//preview", "/a\"b", "/{a}", "/a b"] {
            let message = message(&[("PORT", "1"), ("BASE_PATH", path)]);
            assert!(message.starts_with("BASE_PATH is "), "{path}: {message}");
        }
    }
}

//! The keys of the `basicauth` extension.
//!
//! In: its section. Out: [`Config`]. Invariant: it is for receivers or for exporters, not both.
//!
//! | key | default | |
//! |---|---|---|
//! | `htpasswd.file` | | a file of `user:hash` lines, for receivers |
//! | `htpasswd.inline` | | the same in place; its users count over the file's |
//! | `client_auth.username`, `.password` | | what exporters send |
//! | `client_auth.username_file`, `.password_file` | | files that hold them, read at start |
//!
//! Hashes are bcrypt (`$2a$`, `$2b$`, `$2y$`), `{SHA}`, or the password itself. Others of
//! htpasswd are refused: make them again with `htpasswd -B`.

use crate::config::Section;

/// A configured `basicauth` extension.
#[derive(Clone, PartialEq, Eq)]
pub enum Config {
    /// For receivers.
    Htpasswd {
        /// The file.
        file: Option<String>,
        /// Lines in place.
        inline: String,
    },
    /// For exporters.
    Client {
        /// Who.
        username: Source,
        /// The password.
        password: Source,
    },
}

/// A text, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The text.
    Text(String),
    /// The file.
    File(String),
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let (server, client) = (section.has("htpasswd"), section.has("client_auth"));
        if server == client {
            let message =
                "basicauth needs either htpasswd, for receivers, or client_auth, for exporters";
            section.diagnostics().error(section.position(), message);
        }
        let htpasswd = section.section("htpasswd");
        let client_auth = section.section("client_auth");
        let source = |text, file| match client_auth.text(file) {
            Some(path) if !path.is_empty() => Source::File(path),
            _ => Source::Text(client_auth.text(text).unwrap_or_default()),
        };
        let username = source("username", "username_file");
        let password = source("password", "password_file");
        let file = htpasswd.text("file").filter(|file| !file.is_empty());
        let inline = htpasswd.text("inline").unwrap_or_default();
        if client {
            if username == Source::Text(String::new()) {
                client_auth.error("username", "client_auth needs a username");
            }
            return Self::Client { username, password };
        }
        if server && file.is_none() && inline.is_empty() {
            htpasswd.error("file", "htpasswd needs file or inline");
        }
        Self::Htpasswd { file, inline }
    }
}

impl Source {
    /// The text, without the newline that a file ends with.
    pub(super) fn read(&self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("cannot read {path}: {error}"))?;
                Ok(text.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

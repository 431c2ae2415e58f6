//! The keys of the `bearertokenauth` extension, also spelt `bearertoken`.
//!
//! In: its section. Out: [`Config`]. Invariant: there is a token, or a file that has one.
//!
//! | key | default | |
//! |---|---|---|
//! | `header` | `Authorization` | where the token stands |
//! | `scheme` | `Bearer` | what stands before it; empty for nothing |
//! | `token` | | the token |
//! | `tokens` | | several: receivers take any of them, exporters send the first |
//! | `filename` | | a file with a token on each line, in place of both; a change counts within a second |

use hyper::header::HeaderName;

use crate::config::Section;

/// A configured `bearertokenauth` extension.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// The header.
    pub header: HeaderName,
    /// What stands before the token, with its space.
    pub prefix: String,
    /// The tokens, without a file.
    pub tokens: Vec<String>,
    /// The file.
    pub filename: Option<String>,
}

impl Config {
    /// Reads the section.
    pub fn read(section: &Section<'_>) -> Self {
        let name = section.text("header").filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "authorization".to_owned());
        let header = name.parse::<HeaderName>();
        if header.is_err() {
            section.error("header", format!("{name:?} is not a header's name"));
        }
        let scheme = section.text("scheme");
        let scheme = scheme.unwrap_or_else(|| "Bearer".to_owned());
        let several = section.texts("tokens").into_iter().map(|(token, _)| token);
        let token = section.text("token");
        if token.is_some() && section.has("tokens") {
            section.error("tokens", "token and tokens exclude each other");
        }
        let tokens = token.into_iter().chain(several);
        let tokens: Vec<_> = tokens.filter(|token| !token.is_empty()).collect();
        let filename = section.text("filename").filter(|name| !name.is_empty());
        if tokens.is_empty() && filename.is_none() {
            let message = "bearertokenauth needs token, tokens or filename";
            section.diagnostics().error(section.position(), message);
        }
        Self {
            header: header.unwrap_or(hyper::header::AUTHORIZATION),
            prefix: match scheme.is_empty() {
                true => scheme,
                false => format!("{scheme} "),
            },
            tokens,
            filename,
        }
    }
}

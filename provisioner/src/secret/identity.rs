//! Who may read encrypted secrets: identities (private keys) and recipients (public ones).
//!
//! Goes in: files, environment variables and lines of text. Comes out: [`Identities`] that
//! decrypt, and [`Recipients`] to encrypt to. Invariant: no message quotes a private key.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use crate::document::{Diagnostics, Entry};
use crate::error::{Error, Result};

/// The environment variable that holds identities themselves.
const VARIABLE: &str = "PROVISION_AGE_IDENTITY";

/// The environment variable that names a file with identities.
const FILE_VARIABLE: &str = "PROVISION_AGE_IDENTITY_FILE";

/// Files below the home folder that are read where they are there.
const DEFAULT_FILES: &[&str] = &[OWN_FILE, ".ssh/id_ed25519", ".ssh/id_rsa"];

/// The file below the home folder that `provision` makes when there is no identity.
const OWN_FILE: &str = ".config/provision/identity";

/// The largest file with identities, in bytes.
const IDENTITY_LIMIT: u64 = 64 << 10;

/// The most recipients of a file.
const RECIPIENTS_LIMIT: usize = 64;

/// The longest value, in bytes.
pub(crate) const VALUE_LIMIT: u64 = 64 << 10;

/// A way out where nobody can decrypt.
const HOW_TO_NAME_ONE: &str = "name one with --identity FILE, PROVISION_AGE_IDENTITY_FILE or PROVISION_AGE_IDENTITY, or put it at ~/.config/provision/identity";

/// The private keys of whoever runs this. They are read when the first secret needs them.
#[derive(Clone, Default)]
pub struct Identities {
    named: Vec<PathBuf>,
    loaded: Arc<OnceLock<Loaded>>,
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identities").field(&self.named).finish()
    }
}

#[derive(Default)]
struct Loaded {
    identities: Vec<Identity>,
    /// Files that were there and are of no use, each with why.
    unusable: Vec<String>,
}

struct Identity {
    /// The file or variable that it comes from.
    origin: String,
    /// Its public half, as a line for `recipients`.
    public: Option<String>,
    key: Box<dyn age::Identity + Send + Sync>,
}

impl Identities {
    /// Those of the files that were named; without any, those of the environment and of the home
    /// folder.
    #[must_use]
    pub fn new(named: Vec<PathBuf>) -> Self {
        Self {
            named,
            loaded: Arc::default(),
        }
    }

    /// The public halves, as lines for `recipients`.
    ///
    /// # Errors
    /// A file that was named cannot be read or is no identity.
    pub fn public_keys(&self) -> Result<Vec<String>> {
        let keys = &self.load()?.identities;
        Ok(keys.iter().filter_map(|key| key.public.clone()).collect())
    }

    /// The plain text of an armored one.
    ///
    /// # Errors
    /// It is damaged, or for nobody that is known here.
    pub fn decrypt(&self, armored: &str) -> Result<String> {
        let loaded = self.load()?;
        let damaged =
            |what: String| Error::configuration("the encrypted text is damaged").caused_by(what);
        let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armored.as_bytes()))
            .map_err(|error| damaged(error.to_string()))?;
        let keys = loaded.identities.iter();
        let reader = decryptor.decrypt(keys.map(|one| &*one.key as &dyn age::Identity));
        let reader = reader.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => self.not_for_us(loaded),
            other => damaged(other.to_string()),
        })?;
        let mut plain = String::new();
        let read = reader.take(VALUE_LIMIT + 1).read_to_string(&mut plain);
        read.map_err(|error| damaged(error.to_string()))?;
        if plain.len() as u64 > VALUE_LIMIT {
            return Err(damaged(format!("it has more than {VALUE_LIMIT} bytes")));
        }
        Ok(plain)
    }

    fn not_for_us(&self, loaded: &Loaded) -> Error {
        let mut error = if loaded.identities.is_empty() {
            Error::configuration("there is no identity to decrypt it with").hint(HOW_TO_NAME_ONE)
        } else {
            let mut error = Error::configuration("it is encrypted for others");
            for one in &loaded.identities {
                let public = one
                    .public
                    .as_deref()
                    .unwrap_or("a key without its public half");
                error = error.caused_by(format!("{} is {public}", one.origin));
            }
            error.hint("let one of the recipients run `provision secret rotate --add PUBLIC-KEY` with yours")
        };
        for why in &loaded.unusable {
            error = error.caused_by(why);
        }
        error
    }

    fn load(&self) -> Result<&Loaded> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let loaded = self.read()?;
        Ok(self.loaded.get_or_init(|| loaded))
    }

    fn read(&self) -> Result<Loaded> {
        let mut loaded = Loaded::default();
        for path in &self.named {
            loaded.identities.extend(read_file(path)?);
        }
        if !self.named.is_empty() {
            return Ok(loaded);
        }
        if let Ok(text) = std::env::var(VARIABLE) {
            loaded.identities.extend(parse(VARIABLE, &text)?);
        }
        if let Some(path) = std::env::var_os(FILE_VARIABLE) {
            loaded.identities.extend(read_file(Path::new(&path))?);
        }
        let Some(home) = home() else {
            return Ok(loaded);
        };
        for file in DEFAULT_FILES {
            let path = home.join(file);
            if !path.exists() {
                continue;
            }
            // A key that happens to lie there must not hinder the others.
            match read_file(&path) {
                Ok(keys) => loaded.identities.extend(keys),
                Err(error) => {
                    let words = [vec![error.message], error.causes].concat();
                    loaded.unusable.push(words.join(": "));
                }
            }
        }
        Ok(loaded)
    }

    /// Makes an identity below the home folder, and says where and what its public half is.
    ///
    /// # Errors
    /// There is no home folder, or it cannot be written.
    pub fn make_own() -> Result<(PathBuf, String)> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let home = home().ok_or_else(|| {
            Error::controller("no identity can be made: HOME is not set").hint(HOW_TO_NAME_ONE)
        })?;
        let path = home.join(OWN_FILE);
        let wrap = |error: std::io::Error| {
            Error::controller(format!("{} cannot be written", path.display())).caused_by(error)
        };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(wrap)?;
        }
        let key = age::x25519::Identity::generate();
        let public = key.to_public().to_string();
        let mut options = std::fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(wrap)?;
        let text = format!(
            "# public key: {public}\n{}\n",
            key.to_string().expose_secret()
        );
        file.write_all(text.as_bytes()).map_err(wrap)?;
        file.sync_all().map_err(wrap)?;
        Ok((path, public))
    }
}

fn home() -> Option<PathBuf> {
    std::env::var_os("HOME")
        .filter(|home| !home.is_empty())
        .map(PathBuf::from)
}

fn read_file(path: &Path) -> Result<Vec<Identity>> {
    let origin = path.display().to_string();
    let wrap = |error: std::io::Error| {
        Error::configuration(format!("identity {origin} cannot be read")).caused_by(error)
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(wrap)?;
    file.take(IDENTITY_LIMIT)
        .read_to_string(&mut text)
        .map_err(wrap)?;
    parse(&origin, &text)
}

/// A private key of OpenSSH, or a line for each key of `age-keygen`.
fn parse(origin: &str, text: &str) -> Result<Vec<Identity>> {
    if text.trim_start().starts_with("-----BEGIN") {
        return parse_ssh(origin, text).map(|key| vec![key]);
    }
    let mut keys = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key: age::x25519::Identity = line.parse().map_err(|what| {
            // The line may be a private key with a typing mistake, so it is not shown.
            Error::configuration(format!(
                "{origin}:{}:1: this line is no identity",
                index + 1
            ))
            .caused_by(what)
            .hint("a line AGE-SECRET-KEY-1… as age-keygen writes it, or a private key of OpenSSH")
        })?;
        keys.push(Identity {
            origin: origin.to_owned(),
            public: Some(key.to_public().to_string()),
            key: Box::new(key),
        });
    }
    if keys.is_empty() {
        return Err(Error::configuration(format!(
            "{origin}:1:1: there is no identity in it"
        )));
    }
    Ok(keys)
}

fn parse_ssh(origin: &str, text: &str) -> Result<Identity> {
    let wrong = |what: &str| {
        Error::configuration(format!("{origin}:1:1: this key of OpenSSH cannot be used"))
            .caused_by(what)
    };
    let key = age::ssh::Identity::from_buffer(text.as_bytes(), Some(origin.to_owned()))
        .map_err(|error| wrong(&error.to_string()))?;
    match &key {
        age::ssh::Identity::Unencrypted(_) => {}
        age::ssh::Identity::Encrypted(_) => {
            return Err(wrong("it is locked with a passphrase")
                .hint("runs must not ask for one: make a key for secrets with `age-keygen`, or `ssh-keygen -t ed25519 -N ''`"));
        }
        age::ssh::Identity::Unsupported(_) => {
            return Err(wrong("only ed25519 and RSA keys can decrypt"));
        }
    }
    let public = age::ssh::Recipient::try_from(key.clone());
    Ok(Identity {
        origin: origin.to_owned(),
        public: public.ok().map(|public| public.to_string()),
        key: Box::new(key),
    })
}

/// Whom secrets are encrypted to.
pub struct Recipients {
    keys: Vec<Box<dyn age::Recipient + Send + Sync>>,
    /// Tells this list from another one.
    pub(super) digest: String,
}

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipients({})", self.keys.len())
    }
}

impl Recipients {
    /// Reads their lines; mistakes go to `diagnostics`, with the place of the line.
    #[must_use]
    pub fn parse(lines: &[Entry<String>], diagnostics: &Diagnostics) -> Option<Self> {
        let mut keys = Vec::new();
        let mut names = Vec::new();
        if let Some(excess) = lines.get(RECIPIENTS_LIMIT) {
            let message = format!("there are more than {RECIPIENTS_LIMIT} recipients");
            diagnostics.error(excess.location.clone(), message, None);
            return None;
        }
        for line in lines {
            let name = without_comment(&line.value);
            if names.contains(&name) {
                let message = "this recipient is named twice";
                diagnostics.error(line.location.clone(), message, None);
            }
            match parse_recipient(&line.value) {
                Ok(key) => keys.push(key),
                Err(message) => {
                    let hint = Some(RECIPIENT_HINT.to_owned());
                    diagnostics.error(line.location.clone(), message, hint);
                }
            }
            names.push(name);
        }
        names.sort();
        let digest = Sha256::digest(names.join("\n"));
        let digest = digest.iter().take(6).map(|byte| format!("{byte:02x}"));
        (keys.len() == lines.len() && !keys.is_empty()).then(|| Self {
            keys,
            digest: digest.collect(),
        })
    }

    /// The same for lines of the command line.
    ///
    /// # Errors
    /// A line is no public key.
    pub fn check(line: &str) -> Result<()> {
        parse_recipient(line)
            .map(drop)
            .map_err(|message| Error::usage(message).hint(RECIPIENT_HINT))
    }

    /// An armored text that only they can read.
    ///
    /// # Errors
    /// A key cannot be encrypted to.
    pub fn encrypt(&self, plain: &str) -> Result<String> {
        let wrap = |what: String| Error::controller("it cannot be encrypted").caused_by(what);
        let io = |error: std::io::Error| wrap(error.to_string());
        let keys = self.keys.iter().map(|key| &**key as &dyn age::Recipient);
        let encryptor =
            age::Encryptor::with_recipients(keys).map_err(|error| wrap(error.to_string()))?;
        let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor).map_err(io)?;
        let mut writer = encryptor.wrap_output(armor).map_err(io)?;
        writer.write_all(plain.as_bytes()).map_err(io)?;
        let text = writer
            .finish()
            .and_then(ArmoredWriter::finish)
            .map_err(io)?;
        String::from_utf8(text).map_err(|error| wrap(error.to_string()))
    }
}

const RECIPIENT_HINT: &str = "a public key: age1… as age-keygen prints it, or the line of a .pub file of OpenSSH (ed25519 or RSA)";

/// The key without what a person wrote behind it.
pub(super) fn without_comment(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().take(2).collect();
    if line.starts_with("age1") {
        words.first().copied().unwrap_or_default().to_owned()
    } else {
        words.join(" ")
    }
}

fn parse_recipient(line: &str) -> Result<Box<dyn age::Recipient + Send + Sync>, String> {
    let line = line.trim();
    if line.starts_with("AGE-SECRET-KEY") || line.contains("PRIVATE KEY") {
        return Err(
            "this is a private key; make a new one, as this one was written down".to_owned(),
        );
    }
    if line.starts_with("age1") {
        let key = without_comment(line).parse::<age::x25519::Recipient>();
        return key
            .map(|key| Box::new(key) as _)
            .map_err(|what| format!("this is no public key: {what}"));
    }
    match line.parse::<age::ssh::Recipient>() {
        Ok(key) => Ok(Box::new(key)),
        Err(_) => Err("this is no public key that secrets can be encrypted to".to_owned()),
    }
}

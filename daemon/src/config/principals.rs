//! `[[user]]` and `[[authorizer]]`: clients without a certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iotedge_identity::{MAX_ATTACHED_POLICIES, PasswordHash, TokenSigningKeys};

use super::listener::ListenerAuth;
use super::problem::Place;
use super::section::Section;
use super::{ListenerConfig, policy_may_exist};

/// `[[user]]`, for listeners with `auth = "password"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserConfig {
    /// The user name.
    pub name: Arc<str>,
    /// Where the password's hash is.
    pub password: PasswordSource,
    /// What the user may do.
    pub policies: Vec<Arc<str>>,
    /// Where it stands.
    pub place: Option<Place>,
}

/// Where an argon2 hash is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// Here.
    Hash(PasswordHash),
    /// In a file, which is read at each start and reload.
    File(PathBuf),
    /// A program prints it, at each start and reload.
    Command(Vec<String>),
}

/// `[[authorizer]]`, for listeners with `auth = "custom"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizerConfig {
    /// Its name.
    pub name: Arc<str>,
    /// How it is asked.
    pub call: AuthorizerCall,
    /// The parameter whose value it gets as `token`.
    pub token_key_name: Option<String>,
    /// PEM files of those who may sign tokens; none: signatures are not asked for.
    pub token_signing_keys: Vec<PathBuf>,
    /// How long it may take.
    pub timeout: Duration,
    /// Questions in a second.
    pub max_rate: u32,
    /// Questions at once.
    pub max_concurrent: usize,
    /// The longest that an answer is used for other connections; zero for never.
    pub cache: Duration,
}

/// How a custom authorizer is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthorizerCall {
    /// A program with its arguments.
    Command(Vec<String>),
    /// A POST request.
    Url {
        /// `http://` or `https://`.
        url: String,
        /// PEM file of the CAs to trust with `https`; default: the system's.
        ca: Option<PathBuf>,
    },
}

pub(super) fn users(root: &Section<'_>, policies_dir: &Path, data_dir: &Path) -> Vec<UserConfig> {
    let mut users: Vec<UserConfig> = Vec::new();
    for section in root.tables("user") {
        let user = user(&section, policies_dir, data_dir);
        if let Some(user) = user {
            if users.iter().any(|other| other.name == user.name) {
                section.wrong("name", format!("there is another user {:?}", user.name));
            }
            users.push(user);
        }
        section.finish();
    }
    users
}

fn user(section: &Section<'_>, policies_dir: &Path, data_dir: &Path) -> Option<UserConfig> {
    section.need("name");
    section.need("policy");
    let name = section.parsed("name", |text| {
        let good = (1..=128).contains(&text.chars().count()) && !text.contains(char::is_control);
        match good {
            true if text.contains([':', '?']) => {
                Err("must have neither ':' nor '?', which end a name in HTTP and in custom authentication")
            }
            true => Ok(Arc::from(text)),
            false => Err("must be 1 to 128 characters without control characters"),
        }
    });
    let names: Vec<&str> = match section.is_list("policy") {
        true => section.texts("policy").unwrap_or_default(),
        false => section.text("policy").into_iter().collect(),
    };
    if names.len() > MAX_ATTACHED_POLICIES {
        let reason = format!("has more than {MAX_ATTACHED_POLICIES} policies");
        section.wrong("policy", reason);
    }
    for name in &names {
        if !policy_may_exist(name, policies_dir, data_dir) {
            section.wrong("policy", super::no_policy(name, policies_dir));
        }
    }
    let hash = section.parsed("password", PasswordHash::parse);
    let file = section.password_file("password_file");
    let command = command(section, "password_command");
    let sources = ["password", "password_file", "password_command"];
    match sources.iter().filter(|key| section.has(key)).count() {
        0 => section.wrong(
            "name",
            "needs one of `password`, `password_file`, `password_command`",
        ),
        1 => {}
        _ => section.wrong(
            "password",
            "only one of `password`, `password_file`, `password_command` may stand here",
        ),
    }
    let password = match (hash, file, command) {
        (Some(hash), _, _) => PasswordSource::Hash(hash),
        (_, Some(file), _) => PasswordSource::File(file),
        (_, _, Some(command)) => PasswordSource::Command(command),
        (None, None, None) => return None,
    };
    Some(UserConfig {
        name: name?,
        password,
        policies: names.into_iter().map(Arc::from).collect(),
        place: Some(section.place().clone()),
    })
}

/// A program with its arguments. It is found by its path: the daemon's `PATH` is nobody's business.
fn command(section: &Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let command = section.texts(key)?;
    let program = command.first().copied().unwrap_or_default();
    if !Path::new(program).is_absolute() {
        let reason = "must be a list that begins with a program's absolute path";
        section.wrong(key, reason);
        return None;
    }
    if !Path::new(program).is_file() {
        section.wrong(key, format!("{program} is no file"));
    }
    Some(command.into_iter().map(str::to_owned).collect())
}

pub(super) fn authorizers(root: &Section<'_>) -> Vec<AuthorizerConfig> {
    let mut authorizers: Vec<AuthorizerConfig> = Vec::new();
    for section in root.tables("authorizer") {
        if let Some(authorizer) = authorizer(&section) {
            let name = &authorizer.name;
            if authorizers.iter().any(|other| other.name == *name) {
                section.wrong("name", format!("there is another authorizer {name:?}"));
            }
            authorizers.push(authorizer);
        }
        section.finish();
    }
    authorizers
}

fn authorizer(section: &Section<'_>) -> Option<AuthorizerConfig> {
    section.need("name");
    let name = section.parsed("name", |text| {
        // AWS IoT's pattern for the names of authorizers.
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_=,@-".contains(&b);
        match (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            true => Ok(Arc::from(text)),
            false => Err("must be 1 to 128 of letters, digits and _=,@-"),
        }
    });
    let program = command(section, "command");
    let url = section.parsed("url", |text| {
        crate::authenticate::check_url(text).map(|()| text.to_owned())
    });
    let ca = section.certificates("ca");
    if section.has("ca") && url.as_ref().is_none_or(|url| !url.starts_with("https:")) {
        section.wrong("ca", "is only for a url with https");
    }
    match (section.has("command"), section.has("url")) {
        (true, true) => section.wrong("url", "only one of `command` and `url` may stand here"),
        (false, false) => section.wrong("name", "needs one of `command` and `url`"),
        _ => {}
    }
    let second = Duration::from_secs(1);
    let count = |key, default: u64| section.number(key, 1..=100_000).unwrap_or(default);
    let (rate, concurrent) = (count("max_rate", 100), count("max_concurrent", 10));
    let token_key_name = section.text("token_key_name").map(str::to_owned);
    let token_signing_keys = signing_keys(section);
    let timeout = section.duration("timeout", Duration::from_millis(10)..=second * 60);
    let cache = section.duration("cache", Duration::ZERO..=second * 86_400);
    let call = match (program, url) {
        (Some(command), _) => AuthorizerCall::Command(command),
        (None, Some(url)) => AuthorizerCall::Url { url, ca },
        (None, None) => return None,
    };
    Some(AuthorizerConfig {
        name: name?,
        call,
        token_key_name,
        token_signing_keys,
        timeout: timeout.unwrap_or(second * 5),
        max_rate: u32::try_from(rate).unwrap_or(u32::MAX),
        max_concurrent: usize::try_from(concurrent).unwrap_or(usize::MAX),
        cache: cache.unwrap_or(second * 300),
    })
}

fn signing_keys(section: &Section<'_>) -> Vec<PathBuf> {
    let key = "token_signing_public_keys";
    let paths = section.paths(key);
    if let Err((path, error)) = TokenSigningKeys::read(&paths) {
        section.wrong(key, format!("{}: {error}", path.display()));
    }
    if section.has(key) && paths.is_empty() {
        section.wrong(
            key,
            "has no file in it: leave it out where tokens are not signed",
        );
    }
    if section.has(key) && !section.has("token_key_name") {
        section.wrong(
            key,
            "needs `token_key_name`: where the token is that is signed",
        );
    }
    paths
}

/// Listeners must name what is there, and what nobody comes by is a mistake.
pub(super) fn check(
    root: &Section<'_>,
    listeners: &[ListenerConfig],
    users: &[UserConfig],
    authorizers: &[AuthorizerConfig],
) {
    for listener in listeners {
        let ListenerAuth::Custom { authorizers: named } = &listener.auth else {
            continue;
        };
        let Some(place) = &listener.place else {
            continue;
        };
        for name in named {
            if !authorizers.iter().any(|a| a.name == *name) {
                let reason = format!("there is no [[authorizer]] with the name {name:?}");
                root.note(place, "listener.authorizer", reason);
            }
        }
    }
    let password = |l: &ListenerConfig| l.auth == ListenerAuth::Password;
    if let (Some(user), false) = (users.first(), listeners.iter().any(password)) {
        if let Some(place) = &user.place {
            let reason = "no listener has auth = \"password\": nobody can come as this user";
            root.note(place, "user", reason.into());
        }
    }
}

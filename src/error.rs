// SPDX-License-Identifier: ISC
//! The one error type: what kind, at which path, during which operation, why, and what mends it.
//!
//! An error never holds its verb; `cli` prints `stockade: VERB PATH: reason` and, below it, `hint: ...`.
#![forbid(unsafe_code)]

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::path::escape;

/// What went wrong, coarsely: for programs that read `--json` and for callers that react.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The command line or the recipe asks for something impossible.
    Usage,
    /// Something named does not exist.
    NotFound,
    /// Done on purpose: going on could lose data or leave the root.
    Refused,
    /// Input from outside (archive, manifest, signature, database) is malformed or beyond a limit.
    BadInput,
    /// A signature or checksum does not hold.
    Unverified,
    /// Another process holds the lock.
    Locked,
    /// An earlier command was interrupted and the tree must be recovered first.
    Interrupted,
    /// The user stopped it (Ctrl-C).
    Cancelled,
    /// Not enough space, or a read-only filesystem.
    NoSpace,
    /// The system, filesystem or kernel cannot do it.
    Unsupported,
    /// A system call failed.
    Io,
}

impl ErrorKind {
    /// The stable name used in JSON output.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Usage => "usage",
            ErrorKind::NotFound => "not-found",
            ErrorKind::Refused => "refused",
            ErrorKind::BadInput => "bad-input",
            ErrorKind::Unverified => "unverified",
            ErrorKind::Locked => "locked",
            ErrorKind::Interrupted => "interrupted",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::NoSpace => "no-space",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Io => "io",
        }
    }
}

/// Shorthand used throughout the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that names its path, its operation, its reason and, where there is one, the way out.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    path: Option<Vec<u8>>,
    operation: Option<&'static str>,
    reason: Cow<'static, str>,
    hint: Option<String>,
    excerpt: Option<String>,
    errno: Option<i32>,
}

impl Error {
    /// An error of `kind` for a reason that is one lower-case fragment without a full stop.
    pub fn new(kind: ErrorKind, reason: impl Into<Cow<'static, str>>) -> Error {
        Error(Box::new(Inner {
            kind,
            path: None,
            operation: None,
            reason: reason.into(),
            hint: None,
            excerpt: None,
            errno: None,
        }))
    }

    /// A failed system call: `operation` is its name, `path` what it acted on.
    pub fn io(operation: &'static str, path: impl AsRef<[u8]>, error: &io::Error) -> Error {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::NoSpace
            }
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        };
        let mut made = Error::new(kind, describe(error)).at(path);
        made.0.operation = Some(operation);
        made.0.errno = error.raw_os_error();
        made
    }

    /// The same error, said of `path`, unless it names a path already.
    #[must_use]
    pub fn at(mut self, path: impl AsRef<[u8]>) -> Error {
        self.0.path.get_or_insert_with(|| path.as_ref().to_vec());
        self
    }

    /// The same error, said of a phase of something longer: "building the view".
    #[must_use]
    pub fn during(mut self, phase: &str) -> Error {
        self.0.reason = format!("{} while {phase}", self.0.reason).into();
        self
    }

    /// The same error with the command or setting that mends it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// The same error with lines of the file it is about, marked; shown below the message.
    #[must_use]
    pub fn excerpt(mut self, lines: impl Into<String>) -> Error {
        self.0.excerpt = Some(lines.into());
        self
    }

    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path, as raw bytes.
    pub fn path(&self) -> Option<&[u8]> {
        self.0.path.as_deref()
    }

    /// The same error of a path that is meant below `root`.
    #[must_use]
    pub fn below(mut self, root: &[u8]) -> Error {
        if let Some(path) = &mut self.0.path {
            let rest = path.strip_prefix(b"/").unwrap_or(path);
            *path = if rest.is_empty() { root.to_vec() } else { [root, b"/", rest].concat() };
        }
        self
    }

    /// The system call that failed, if one did.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// The reason alone, without path and operation.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What mends it.
    pub fn advice(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Marked lines of the file it is about.
    pub fn lines(&self) -> Option<&str> {
        self.0.excerpt.as_deref()
    }

    /// The errno of a failed system call.
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.0.path {
            write!(f, "{}: ", escape(path))?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.reason)
    }
}

impl std::error::Error for Error {}

/// The text of `error` without Rust's "(os error N)".
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) if error.raw_os_error().is_some() => text[..end].to_owned(),
        _ => text,
    }
}

/// Attaches operation and path to the bare I/O errors that `sys` returns.
pub trait IoContext<T> {
    /// On failure: `operation` failed on `path`.
    fn on(self, operation: &'static str, path: impl AsRef<[u8]>) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn on(self, operation: &'static str, path: impl AsRef<[u8]>) -> Result<T> {
        self.map_err(|error| Error::io(operation, path, &error))
    }
}

/// Makes an [`ErrorKind::Usage`] or other error and returns it: `bail!(Refused, "...")`.
#[macro_export]
macro_rules! bail {
    ($kind:ident, $($text:tt)+) => {
        return Err($crate::error::Error::new($crate::error::ErrorKind::$kind, format!($($text)+)))
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_reads_as_path_operation_reason() {
        let error = Error::io("chown", "etc/passwd", &io::Error::from_raw_os_error(1));
        assert_eq!(error.to_string(), "etc/passwd: chown: Operation not permitted");
        assert_eq!(error.at("other").path(), Some(&b"etc/passwd"[..]));
    }

    #[test]
    fn odd_bytes_in_a_path_are_escaped() {
        let error = Error::new(ErrorKind::Refused, "no").at(b"a\nb\x1b[31m");
        assert_eq!(error.to_string(), "a\\012b\\033[31m: no");
    }
}

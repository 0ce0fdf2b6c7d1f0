//! The token that a person gives: from a file or standard input, never from an argument.

use std::io::Read as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::Failure;
use crate::rotation::token::Token;

/// Longest file that is read.
const TOKEN_FILE_MAX: usize = 16 * 1024;

/// A token from a file or standard input, never from an argument. Blanks around it, as editors leave them, are not part of it.
pub(super) fn read(path: &Path) -> Result<Token, Failure> {
    let shown = if path == Path::new("-") { "standard input".to_owned() } else { format!("the token file {}", path.display()) };
    let untouched = "Nothing was changed";
    let mut bytes = Zeroizing::new(Vec::with_capacity(TOKEN_FILE_MAX + 1));
    let most = TOKEN_FILE_MAX as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    read.map_err(|error| {
        Failure::error(format!(
            "{shown} cannot be read: {error}. {untouched}. To do: name a file that holds the token, or - for standard input"
        ))
    })?;
    if bytes.len() > TOKEN_FILE_MAX {
        return Err(Failure::error(format!(
            "{shown} is longer than {TOKEN_FILE_MAX} bytes, so it is no token. {untouched}. To do: give the token alone"
        )));
    }
    let text = std::str::from_utf8(bytes.trim_ascii()).ok();
    let token = text.ok_or_else(|| "it is not text".to_owned()).and_then(|text| Token::new(text).map_err(|error| error.to_string()));
    token.map_err(|why| Failure::error(format!("{shown} holds no token: {why}. {untouched}. To do: give the token alone, in one line")))
}

//! --token-auth-file: lines of `token,user,uid,"group,group"` (apiserver/pkg/authentication/token/tokenfile).

use std::path::Path;

use hashbrown::HashMap;

use crate::auth::{AuthError, UserInfo};

#[derive(Debug)]
pub struct TokenFile(HashMap<String, UserInfo>);

impl TokenFile {
    pub fn read(path: &Path) -> Result<Self, AuthError> {
        let text = pki::files::read_required(path).map_err(|e| AuthError(format!("--token-auth-file: {e}")))?;
        Self::parse(&text).map_err(|e| AuthError(format!("--token-auth-file: {}: {e}", path.display())))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let mut fields = columns(line).into_iter();
            let (Some(token), Some(name), Some(uid)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(format!("line {}: at least token, user name and uid are needed", number + 1));
            };
            if token.is_empty() {
                return Err(format!("line {}: the token is empty", number + 1));
            }
            let groups = fields.next().unwrap_or_default().split(',').filter(|g| !g.is_empty()).map(str::to_owned).collect();
            users.insert(token, UserInfo { name, uid, groups, ..UserInfo::default() });
        }
        Ok(Self(users))
    }

    pub fn user(&self, token: &str) -> Option<UserInfo> {
        self.0.get(token).cloned()
    }
}

/// The fields of a line of CSV (RFC 4180).
fn columns(line: &str) -> Vec<String> {
    let mut columns = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        let column = columns.last_mut().expect("there is always one");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => column.extend(letters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            _ => column.push(letter),
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_read() {
        let file = TokenFile::parse("abc,alice,1,\"a,b\"\n\nxyz,bob,2\n").unwrap();
        assert_eq!(file.user("abc").unwrap().groups, ["a", "b"]);
        assert_eq!(file.user("xyz").unwrap().name, "bob");
        assert!(file.user("none").is_none());
        assert!(TokenFile::parse("abc,alice").unwrap_err().contains("line 1"));
    }
}

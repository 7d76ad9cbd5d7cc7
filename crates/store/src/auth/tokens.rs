//! Simple tokens: who holds one is a user, until it was not used for a while (server/auth/simple_token.go). Each member learns of a token from the log and
//! keeps its own time for it; none is stored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// etcd's default of --auth-token-ttl.
const TTL_MS: u64 = 300_000;
/// Below so many nobody looks for tokens that are over.
const FEW: usize = 64;

struct Token {
    user: String,
    deadline_ms: AtomicU64,
}

pub(crate) struct Tokens {
    by_text: HashMap<String, Token>,
    ttl_ms: u64,
    /// Entries of the log up to this one were carried out in an earlier life of this member: nobody knows how long ago their tokens were used.
    born_at: u64,
    /// How many there are when the next search for tokens that are over pays.
    sweep_at: usize,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { by_text: HashMap::new(), ttl_ms: TTL_MS, born_at: 0, sweep_at: FEW }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({})", self.by_text.len())
    }
}

impl Tokens {
    pub fn set_ttl(&mut self, ttl_ms: u64) {
        self.ttl_ms = ttl_ms;
    }

    /// After a start whose log ends at this entry.
    pub fn forget_earlier_life(&mut self, index: u64) {
        self.by_text.clear();
        self.born_at = index;
    }

    /// The same member goes on, with another's state.
    pub fn keep_settings(&mut self, before: &Self) {
        (self.ttl_ms, self.born_at) = (before.ttl_ms, before.born_at);
    }

    /// Gives out the token that the entry `index` of the log is about.
    pub fn assign(&mut self, text: String, user: String, index: u64, now_ms: u64) {
        if index <= self.born_at {
            return;
        }
        if self.by_text.len() >= self.sweep_at {
            self.by_text.retain(|_, token| now_ms < token.deadline_ms.load(Ordering::Relaxed));
            self.sweep_at = FEW.max(2 * self.by_text.len());
        }
        let deadline_ms = AtomicU64::new(now_ms.saturating_add(self.ttl_ms));
        self.by_text.insert(text, Token { user, deadline_ms });
    }

    /// Whose token it is; using it makes it live on.
    pub fn user(&self, text: &str, now_ms: u64) -> Option<&str> {
        let token = self.by_text.get(text)?;
        if now_ms >= token.deadline_ms.load(Ordering::Relaxed) {
            return None;
        }
        token.deadline_ms.store(now_ms.saturating_add(self.ttl_ms), Ordering::Relaxed);
        Some(&token.user)
    }

    pub fn forget_user(&mut self, user: &str) {
        self.by_text.retain(|_, token| token.user != user);
    }

    pub fn forget_all(&mut self) {
        self.by_text.clear();
    }
}

/// The place in the log at which the token was given out; `None`: it is no token of ours.
pub(crate) fn index_of(text: &str) -> Option<u64> {
    let (nonce, index) = text.split_once('.')?;
    let is_plain = !nonce.is_empty() && !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { index.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_while_it_is_used() {
        let mut tokens = Tokens::default();
        tokens.set_ttl(100);
        tokens.assign("a.1".into(), "ann".into(), 1, 0);
        assert_eq!(tokens.user("a.1", 99), Some("ann"));
        assert_eq!(tokens.user("a.1", 198), Some("ann"));
        assert_eq!(tokens.user("a.1", 298), None);
        assert_eq!(tokens.user("a.2", 0), None);
        tokens.assign("b.2".into(), "bob".into(), 2, 300);
        tokens.forget_user("ann");
        assert_eq!(tokens.user("b.2", 301), Some("bob"));
        tokens.forget_user("bob");
        assert_eq!(tokens.user("b.2", 302), None);
    }

    #[test]
    fn tokens_that_are_over_do_not_pile_up() {
        let mut tokens = Tokens::default();
        tokens.set_ttl(10);
        for n in 0..10_000u64 {
            tokens.assign(format!("t.{n}"), "u".into(), n + 1, n);
        }
        assert!(tokens.by_text.len() <= FEW + 1, "{}", tokens.by_text.len());
    }

    #[test]
    fn a_new_life_knows_no_old_tokens() {
        let mut tokens = Tokens::default();
        tokens.assign("a.4".into(), "ann".into(), 4, 0);
        tokens.forget_earlier_life(5);
        tokens.assign("b.5".into(), "ann".into(), 5, 0);
        tokens.assign("c.6".into(), "ann".into(), 6, 0);
        assert_eq!(["a.4", "b.5", "c.6"].map(|text| tokens.user(text, 0).is_some()), [false, false, true]);
    }

    #[test]
    fn texts_of_tokens() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(index_of(text), expected, "{text:?}");
        check("abc.12", Some(12));
        check("abc.18446744073709551615", Some(u64::MAX));
        for wrong in ["", ".", "abc", "abc.", ".1", "abc.1.2", "abc.+1", "abc.-1", "abc.1x", "abc.18446744073709551616", "a.\u{661}"] {
            check(wrong, None);
        }
    }
}

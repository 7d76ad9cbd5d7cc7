//! Passwords: hashed and compared by bcrypt, off the threads that serve, and not many at once: each takes a tenth of a second of a processor on purpose.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use store::{AuthError, PasswordHash};
use tokio::sync::Semaphore;
use tonic::Status;

/// etcd's default of --bcrypt-cost (golang.org/x/crypto/bcrypt, DefaultCost), and the limits of the algorithm.
pub const DEFAULT_COST: u32 = 10;
const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
/// bcrypt looks at so many bytes; what is longer is refused rather than cut.
const MAX_BYTES: usize = 72;
const AT_ONCE: usize = 2;

pub struct Passwords {
    cost: u32,
    turns: Arc<Semaphore>,
    /// What a password is compared with where there is no user, so that the time taken does not tell.
    nobody: PasswordHash,
}

impl Passwords {
    /// A cost that cannot be is replaced by the default, as in etcd.
    pub fn new(cost: u32) -> Self {
        let good = COSTS.contains(&cost);
        if !good {
            tracing::warn!(given = cost, used = DEFAULT_COST, "--bcrypt-cost must be from 4 to 31");
        }
        let cost = if good { cost } else { DEFAULT_COST };
        let nobody = PasswordHash(format!("$2a${cost:02}${}", ".".repeat(53)).into());
        Self { cost, turns: Arc::new(Semaphore::new(AT_ONCE)), nobody }
    }

    pub async fn hash(&self, password: String) -> Result<PasswordHash, Status> {
        if password.len() > MAX_BYTES {
            return Err(Status::unknown("bcrypt: password length exceeds 72 bytes"));
        }
        let cost = self.cost;
        let hashed = self.work(move || bcrypt::hash_with_result(password, cost)).await?;
        let parts = hashed.map_err(|error| Status::internal(format!("the password cannot be hashed: {error}")))?;
        // The form that Go writes.
        Ok(PasswordHash(parts.format_for_version(bcrypt::Version::TwoA).into()))
    }

    /// Whether the password is the hashed one. `None`: there is no such user, which takes as long.
    pub async fn is_right(&self, password: String, hash: Option<PasswordHash>) -> Result<bool, Status> {
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.nobody.clone());
        let right =
            self.work(move || std::str::from_utf8(&hash.0).is_ok_and(|hash| bcrypt::verify(password, hash).unwrap_or(false))).await?;
        Ok(right && exists)
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Status> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|error| Status::internal(error.to_string()))?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        done.await.map_err(|error| Status::internal(error.to_string()))
    }
}

/// A hash as requests carry it.
pub fn from_base64(text: &str) -> Result<PasswordHash, Status> {
    let bytes = STANDARD.decode(text).map_err(|_| crate::errors::to_status(AuthError::AuthFailed.into()))?;
    Ok(PasswordHash(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn passwords_are_right_or_wrong() {
        let passwords = Passwords::new(4);
        for password in ["", "secret", "pässwörd", &"x".repeat(72)] {
            let hash = passwords.hash(password.to_owned()).await.unwrap();
            assert!(hash.0.starts_with(b"$2a$04$"));
            assert!(passwords.is_right(password.to_owned(), Some(hash.clone())).await.unwrap(), "{password}");
            assert!(!passwords.is_right("other".into(), Some(hash)).await.unwrap());
        }
        assert!(passwords.hash("x".repeat(73)).await.is_err());
        assert!(!passwords.is_right(String::new(), Some(PasswordHash::default())).await.unwrap());
        assert!(!passwords.is_right("secret".into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn hashes_of_others_are_understood() {
        // From the test vectors of crypt_blowfish.
        let stored = || Some(PasswordHash("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW".into()));
        assert!(Passwords::new(4).is_right("U*U".into(), stored()).await.unwrap());
        assert!(!Passwords::new(4).is_right("U*V".into(), stored()).await.unwrap());
    }

    #[test]
    fn costs() {
        assert_eq!(Passwords::new(3).cost, DEFAULT_COST);
        assert_eq!(Passwords::new(32).cost, DEFAULT_COST);
        assert_eq!(Passwords::new(12).cost, 12);
    }
}

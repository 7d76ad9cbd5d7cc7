//! Service-account tokens of pods: asked for once, renewed at 80 % of their life (pkg/kubelet/token).

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::Pod;
use parking_lot::Mutex;

use crate::objects::{ObjectError, Objects, Token};
use crate::pod::{name, namespace, spec, uid};

/// A token older than this is renewed whatever its life is.
const MAX_AGE_SECONDS: i64 = 24 * 3600;

#[derive(Clone, Debug)]
struct Held {
    token: Token,
    issued: jiff::Timestamp,
}

/// Pod UID, audience, wanted seconds.
type Key = (String, String, i64);

#[derive(Clone)]
pub struct Tokens {
    objects: Objects,
    held: Arc<Mutex<HashMap<Key, Held>>>,
}

fn wants_renewal(held: &Held, now: jiff::Timestamp) -> bool {
    let life = held.token.expires.as_second() - held.issued.as_second();
    let age = now.as_second() - held.issued.as_second();
    age > MAX_AGE_SECONDS || age * 5 >= life * 4
}

impl Tokens {
    pub fn new(objects: Objects) -> Self {
        Self { objects, held: Arc::default() }
    }

    /// A token that is still good for a while. When renewing fails, the old one serves until it ends.
    pub async fn get(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<String, ObjectError> {
        let key = (uid(pod).to_owned(), audience.to_owned(), seconds);
        let now = base::clock::now();
        let old = self.held.lock().get(&key).cloned();
        if let Some(held) = old.as_ref().filter(|held| !wants_renewal(held, now)) {
            return Ok(held.token.token.clone());
        }
        let account = spec(pod).service_account_name.as_deref().unwrap_or("default");
        match self.objects.token(namespace(pod), account, (name(pod), uid(pod)), audience, seconds).await {
            Ok(token) => {
                let text = token.token.clone();
                self.held.lock().insert(key, Held { token, issued: now });
                Ok(text)
            }
            Err(error) => match old.filter(|held| held.token.expires > now) {
                Some(held) => {
                    tracing::warn!(pod = crate::pod::described(pod), %error, "a service-account token cannot be renewed yet");
                    Ok(held.token.token)
                }
                None => Err(error),
            },
        }
    }

    pub fn forget(&self, pod_uid: &str) {
        self.held.lock().retain(|key, _| key.0 != pod_uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_at_four_fifths_or_a_day() {
        let at = |second: i64| jiff::Timestamp::from_second(second).unwrap();
        let check = |life: i64, age: i64, expected: bool| {
            let held = Held { token: Token { token: String::new(), expires: at(life) }, issued: at(0) };
            assert_eq!(wants_renewal(&held, at(age)), expected, "{life} {age}");
        };
        check(1000, 799, false);
        check(1000, 800, true);
        check(31_536_000, 86_400, false);
        check(31_536_000, 86_401, true);
    }
}

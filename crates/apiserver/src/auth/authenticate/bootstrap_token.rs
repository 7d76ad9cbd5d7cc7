//! Bootstrap tokens: `id.secret`, kept as Secrets of kube-system (plugin/pkg/auth/authenticator/token/bootstrap).

use std::sync::Arc;

use api::core::v1::Secret;
use base::clock;

use crate::Objects;
use crate::auth::UserInfo;

const GROUP: &str = "system:bootstrappers";

pub struct BootstrapTokens {
    objects: Objects,
}

impl BootstrapTokens {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    pub fn user(&self, token: &str) -> Option<UserInfo> {
        let (id, secret) = token.split_once('.')?;
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if id.len() != 6 || secret.len() != 16 || !plain(id) || !plain(secret) {
            return None;
        }
        let found: Arc<Secret> = self.objects.get(Some("kube-system"), &format!("bootstrap-token-{id}"))?;
        user_of(&found, id, secret, clock::now())
    }
}

fn user_of(found: &Secret, id: &str, secret: &str, now: jiff::Timestamp) -> Option<UserInfo> {
    let text = |key: &str| found.data.as_ref()?.get(key).and_then(|value| std::str::from_utf8(&value.0).ok());
    if found.type_.as_deref() != Some("bootstrap.kubernetes.io/token") || found.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let known = ring::digest::digest(&ring::digest::SHA256, text("token-secret")?.as_bytes());
    let given = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes());
    // Equal hashes are compared so that the time taken tells nothing of the secret.
    if known.as_ref() != given.as_ref() || text("token-id") != Some(id) || text("usage-bootstrap-authentication") != Some("true") {
        return None;
    }
    if let Some(expiration) = text("expiration")
        && !expiration.parse::<jiff::Timestamp>().is_ok_and(|at| now < at)
    {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    for group in text("auth-extra-groups").unwrap_or_default().split(',').filter(|g| !g.is_empty()) {
        group.strip_prefix(GROUP)?.strip_prefix(':')?;
        groups.push(group.to_owned());
    }
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: (&str, &str), expected: bool) {
        let mut data: std::collections::BTreeMap<String, api::ByteString> = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("expiration", "2026-02-01T00:00:00Z"),
            ("auth-extra-groups", "system:bootstrappers:workers"),
        ]
        .map(|(key, value)| (key.to_owned(), api::ByteString(value.into())))
        .into();
        data.insert(change.0.into(), api::ByteString(change.1.into()));
        let secret = Secret { data: Some(data), type_: Some("bootstrap.kubernetes.io/token".into()), ..Secret::default() };
        let user = user_of(&secret, "abcdef", "0123456789abcdef", "2026-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(user.is_some(), expected, "{change:?}");
    }

    #[test]
    fn every_field_counts() {
        check(("description", "x"), true);
        check(("token-secret", "0123456789abcdee"), false);
        check(("usage-bootstrap-authentication", "false"), false);
        check(("expiration", "2025-12-01T00:00:00Z"), false);
        check(("expiration", "soon"), false);
        check(("auth-extra-groups", "system:masters"), false);
    }
}

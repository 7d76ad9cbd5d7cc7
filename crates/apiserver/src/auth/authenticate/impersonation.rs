//! `Impersonate-User` and its companions: acting as somebody else, if the one who asks may
//! (apiserver/pkg/endpoints/filters/impersonation).

use std::collections::BTreeMap;

use api::StatusError;
use http::{HeaderMap, HeaderValue};

use crate::auth::identity::{ANONYMOUS, UNAUTHENTICATED, mark_authenticated, service_account_groups, split_service_account};
use crate::auth::{Attributes, Authorizer, Decision, UserInfo, forbidden};
use crate::transport::query::decode;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

/// What the headers ask for; `None` when nothing.
pub fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, StatusError> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(None);
    }
    let mut wanted = Wanted { user: one(headers, USER)?, uid: one(headers, UID)?, ..Wanted::default() };
    for value in headers.get_all(GROUP) {
        wanted.groups.push(text(value)?);
    }
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA_PREFIX) {
            wanted.extra.entry(decode(key, false).to_lowercase()).or_default().push(text(value)?);
        }
    }
    if !wanted.user.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted.groups.is_empty() && wanted.uid.is_empty() && wanted.extra.is_empty() {
        return Ok(None);
    }
    Err(StatusError::internal("requested impersonation of groups, a uid or extra values without impersonating a user name"))
}

fn one(headers: &HeaderMap, name: &str) -> Result<String, StatusError> {
    headers.get(name).map(text).transpose().map(Option::unwrap_or_default)
}

fn text(value: &HeaderValue) -> Result<String, StatusError> {
    std::str::from_utf8(value.as_bytes()).map(str::to_owned).map_err(|_| StatusError::bad_request("an Impersonate header is not UTF-8"))
}

impl Wanted {
    /// The user to go on as; 403 unless `asking` may impersonate each part.
    pub async fn apply(self, asking: &UserInfo, authorizer: &dyn Authorizer) -> Result<UserInfo, StatusError> {
        let may = async |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
            let asked = Attributes {
                user: asking,
                verb: "impersonate",
                is_resource: true,
                group,
                version: "v1",
                resource,
                subresource,
                namespace,
                name,
                path: "",
                field_selector: "",
                label_selector: "",
            };
            match authorizer.authorize(&asked).await {
                Decision::Allow => Ok(()),
                Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(&asked, &reason)),
            }
        };
        let account = split_service_account(&self.user);
        match account {
            Some((namespace, name)) => may("", "serviceaccounts", "", namespace, name).await?,
            None => may("", "users", "", "", &self.user).await?,
        }
        for group in &self.groups {
            may("", "groups", "", "", group).await?;
        }
        for (key, values) in &self.extra {
            for value in values {
                may(AUTHENTICATION, "userextras", key, "", value).await?;
            }
        }
        if !self.uid.is_empty() {
            may(AUTHENTICATION, "uids", "", "", &self.uid).await?;
        }
        let groups = match account {
            Some((namespace, _)) if self.groups.is_empty() => service_account_groups(namespace),
            _ => self.groups,
        };
        let mut user = UserInfo { name: self.user, uid: self.uid, groups, extra: self.extra };
        if user.name != ANONYMOUS {
            mark_authenticated(&mut user);
        } else if !user.is_in(UNAUTHENTICATED) {
            user.groups.push(UNAUTHENTICATED.into());
        }
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    struct Only(&'static str);

    #[async_trait::async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, asked: &Attributes<'_>) -> Decision {
            if asked.verb == "impersonate" && asked.name == self.0 { Decision::Allow } else { Decision::NoOpinion(String::new()) }
        }
    }

    #[tokio::test]
    async fn each_part_is_authorized() {
        let asking = UserInfo { name: "boss".into(), ..UserInfo::default() };
        let user = wanted(&headers(&[(USER, "alice")])).unwrap().unwrap().apply(&asking, &Only("alice")).await.unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("alice", &["system:authenticated".to_owned()][..]));
        let more = wanted(&headers(&[(USER, "alice"), (GROUP, "system:masters")])).unwrap().unwrap();
        let error = more.apply(&asking, &Only("alice")).await.unwrap_err();
        assert_eq!(
            error.message(),
            "groups \"system:masters\" is forbidden: User \"boss\" cannot impersonate resource \"groups\" in API group \"\" at the cluster scope"
        );
    }

    #[tokio::test]
    async fn service_accounts_bring_their_groups() {
        let asking = UserInfo { name: "boss".into(), ..UserInfo::default() };
        let asked = wanted(&headers(&[(USER, "system:serviceaccount:ns:default")])).unwrap().unwrap();
        let user = asked.apply(&asking, &Only("default")).await.unwrap();
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    }

    #[test]
    fn groups_alone_are_an_error() {
        assert!(wanted(&headers(&[(GROUP, "a")])).is_err());
        assert_eq!(wanted(&headers(&[])).unwrap(), None);
        let extra = wanted(&headers(&[(USER, "a"), ("impersonate-extra-acme.com%2fscope", "x")])).unwrap().unwrap();
        assert_eq!(extra.extra["acme.com/scope"], ["x"]);
    }
}

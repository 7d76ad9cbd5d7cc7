//! Service-account tokens: issued by TokenRequest, bound to a pod, a secret or a node, verified against what they are bound to.
//! Upstream: pkg/serviceaccount/{claims,jwt}.go, pkg/registry/core/serviceaccount/storage/token.go.

use std::sync::Arc;

use api::authentication::v1::{TokenRequest, TokenRequestStatus};
use api::core::v1::{Node, Pod, Secret, ServiceAccount};
use api::meta::v1::{ObjectMeta, Time};
use api::{FieldErrors, Path, StatusError};
use async_trait::async_trait;
use base::clock;
use bytes::Bytes;
use pki::jws::{self, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::identity::{CREDENTIAL_ID, NODE_NAME, NODE_UID, POD_NAME, POD_UID, service_account_groups, service_account_user};
use super::{AuthError, AuthOptions, Tokens, UserInfo};
use crate::Objects;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What the ServiceAccount admission plugin asks for; such tokens live a year, with a warning after this time.
pub const WARN_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 3600;
/// Clocks may differ by so much, and a deleted object is still believed for so long.
const LEEWAY_SECONDS: i64 = 60;

#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Private,
    nbf: i64,
    sub: String,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Private {
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    serviceaccount: Reference,
    #[serde(skip_serializing_if = "Option::is_none")]
    warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
struct Reference {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    uid: String,
}

impl Reference {
    fn to(meta: &ObjectMeta) -> Self {
        Self { name: meta.name.clone().unwrap_or_default(), uid: meta.uid.clone().unwrap_or_default() }
    }

    fn is(&self, meta: &ObjectMeta) -> bool {
        meta.uid.as_deref() == Some(self.uid.as_str())
    }
}

/// Issues and verifies.
pub struct ServiceAccounts {
    objects: Objects,
    signing: Option<SigningKey>,
    keys: Vec<VerifyingKey>,
    /// The first one signs.
    issuers: Vec<String>,
    audiences: Vec<String>,
    max_seconds: Option<i64>,
    extend: bool,
    jwks_uri: Option<String>,
}

impl ServiceAccounts {
    pub fn new(options: &AuthOptions, objects: &Objects) -> Result<Self, AuthError> {
        let bad = |flag: &str, error: pki::Error| AuthError(format!("{flag}: {error}"));
        let mut keys = Vec::new();
        for path in &options.service_account_key_file {
            let read = pki::files::read_required(path).and_then(|pem| VerifyingKey::all_from_pem(&pem).map_err(|e| e.in_file(path)));
            keys.extend(read.map_err(|e| bad("--service-account-key-file", e))?);
        }
        let signing = match &options.service_account_signing_key_file {
            None => None,
            Some(path) => {
                let key = pki::files::read_required(path)
                    .and_then(|pem| pki::PrivateKey::from_pem(&pem).and_then(|key| SigningKey::new(&key)).map_err(|e| e.in_file(path)));
                Some(key.map_err(|e| bad("--service-account-signing-key-file", e))?)
            }
        };
        if let Some(signing) = &signing {
            if options.service_account_issuer.first().is_none_or(String::is_empty) {
                return Err(AuthError("--service-account-issuer is needed beside --service-account-signing-key-file".into()));
            }
            if !keys.iter().any(|key| key.id == signing.public.id) {
                keys.push(signing.public.clone());
            }
        }
        let audiences = if options.api_audiences.is_empty() { &options.service_account_issuer } else { &options.api_audiences };
        let max_seconds = match options.service_account_max_token_expiration.as_deref() {
            None | Some("" | "0" | "0s") => None,
            Some(text) => Some(max_seconds(text)?),
        };
        Ok(Self {
            objects: objects.clone(),
            signing,
            keys,
            issuers: options.service_account_issuer.clone(),
            audiences: audiences.clone(),
            max_seconds,
            extend: options.service_account_extend_token_expiration,
            jwks_uri: options.service_account_jwks_uri.clone(),
        })
    }

    /// Audiences of this API.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// The user of a token and those of `audiences` that it is good for.
    pub fn verify(&self, token: &str, audiences: &[String]) -> Option<(UserInfo, Vec<String>)> {
        let issuer = jws::peek_claims(token)?;
        if !self.issuers.iter().any(|ours| issuer.get("iss").and_then(serde_json::Value::as_str) == Some(ours)) {
            return None;
        }
        let claims: Claims = serde_json::from_slice(&jws::verify(token, &self.keys)?).ok()?;
        let good_for: Vec<String> = audiences.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if good_for.is_empty() {
            return None;
        }
        match self.check(&claims, clock::now().as_second()) {
            Ok(user) => Some((user, good_for)),
            Err(cause) => {
                tracing::warn!(subject = claims.sub, cause, "a service-account token is refused");
                None
            }
        }
    }

    fn check(&self, claims: &Claims, now: i64) -> Result<UserInfo, &'static str> {
        if now > claims.exp + LEEWAY_SECONDS {
            return Err("it has expired");
        }
        if now < claims.nbf - LEEWAY_SECONDS {
            return Err("it is not valid yet: is the clock right?");
        }
        let private = &claims.kubernetes;
        let (namespace, account) = (private.namespace.as_str(), &private.serviceaccount);
        if claims.sub != service_account_user(namespace, &account.name) {
            return Err("its subject is another account");
        }
        let found: Arc<ServiceAccount> = self.objects.get(Some(namespace), &account.name).ok_or("its service account does not exist")?;
        alive(account, &found.metadata, now)?;
        let mut extra = std::collections::BTreeMap::new();
        if !claims.jti.is_empty() {
            extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.jti)]);
        }
        if let Some(secret) = &private.secret {
            let found: Arc<Secret> = self.objects.get(Some(namespace), &secret.name).ok_or("its secret does not exist")?;
            alive(secret, &found.metadata, now)?;
        }
        if let Some(pod) = &private.pod {
            let found: Arc<Pod> = self.objects.get(Some(namespace), &pod.name).ok_or("its pod does not exist")?;
            alive(pod, &found.metadata, now)?;
            extra.insert(POD_NAME.to_owned(), vec![pod.name.clone()]);
            extra.insert(POD_UID.to_owned(), vec![pod.uid.clone()]);
        }
        if let Some(node) = &private.node {
            // A token bound to a pod names the pod's node for information only; one bound to the node lives with it.
            if private.pod.is_none() {
                let found: Arc<Node> = self.objects.get(None, &node.name).ok_or("its node does not exist")?;
                alive(node, &found.metadata, now)?;
            }
            extra.insert(NODE_NAME.to_owned(), vec![node.name.clone()]);
            if !node.uid.is_empty() {
                extra.insert(NODE_UID.to_owned(), vec![node.uid.clone()]);
            }
        }
        Ok(UserInfo { name: claims.sub.clone(), uid: account.uid.clone(), groups: service_account_groups(namespace), extra })
    }

    /// Looks up what the token shall be bound to; fills `private`.
    async fn bind(&self, account: &ServiceAccount, request: &TokenRequest, private: &mut Private) -> Result<(), StatusError> {
        let Some(reference) = request.spec.as_ref().and_then(|spec| spec.bound_object_ref.as_ref()) else { return Ok(()) };
        let (version, kind) = (reference.api_version.as_deref().unwrap_or_default(), reference.kind.as_deref().unwrap_or_default());
        let name = reference.name.as_deref().unwrap_or_default();
        let namespace = private.namespace.clone();
        let bound = match (version, kind) {
            ("v1", "Pod") => {
                let pod: Pod = self.find(Some(&namespace), "pods", name).await?;
                let spec = pod.spec.as_ref();
                if spec.and_then(|s| s.service_account_name.as_deref()) != account.metadata.name.as_deref() {
                    let account = account.metadata.name.as_deref().unwrap_or_default();
                    return Err(StatusError::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                if let Some(node) = spec.and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty()) {
                    let found: Option<Arc<Node>> = self.objects.get(None, node);
                    let uid = found.and_then(|n| n.metadata.uid.clone()).unwrap_or_default();
                    private.node = Some(Reference { name: node.to_owned(), uid });
                }
                private.pod.insert(Reference::to(&pod.metadata)).clone()
            }
            ("v1", "Secret") => {
                let secret: Secret = self.find(Some(&namespace), "secrets", name).await?;
                private.secret.insert(Reference::to(&secret.metadata)).clone()
            }
            ("v1", "Node") => {
                let node: Node = self.find(None, "nodes", name).await?;
                private.node.insert(Reference::to(&node.metadata)).clone()
            }
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                return Err(StatusError::bad_request(format!("cannot bind token to object of type {group}/{version}, Kind={kind}")));
            }
        };
        match reference.uid.as_deref() {
            Some(uid) if !uid.is_empty() && uid != bound.uid => Err(StatusError::conflict(
                "",
                kind,
                name,
                &format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// From the store itself: a kubelet asks for the token of a pod that it has just seen.
    async fn find<K: kinds::Kind>(&self, namespace: Option<&str>, resource: &str, name: &str) -> Result<K, StatusError> {
        self.objects.read(namespace, name).await?.ok_or_else(|| StatusError::not_found("", resource, name))
    }
}

fn alive(wanted: &Reference, found: &ObjectMeta, now: i64) -> Result<(), &'static str> {
    if !wanted.is(found) {
        return Err("what it is bound to was deleted and made again");
    }
    match &found.deletion_timestamp {
        Some(Time(at)) if at.as_second() < now - LEEWAY_SECONDS => Err("what it is bound to was deleted"),
        _ => Ok(()),
    }
}

/// Seconds of a Go duration; upstream wants between 1 h and 2^32 s.
fn max_seconds(text: &str) -> Result<i64, AuthError> {
    let span: jiff::SignedDuration = text.parse().map_err(|e| AuthError(format!("--service-account-max-token-expiration: {e}")))?;
    let seconds = span.as_secs();
    if !(3600..=MAX_SECONDS).contains(&seconds) {
        return Err(AuthError("--service-account-max-token-expiration must be between 1 hour and 2^32 seconds".into()));
    }
    Ok(seconds)
}

fn check_spec(seconds: i64) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let path = Path::new("spec").child("expirationSeconds");
    if seconds < MIN_SECONDS {
        errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > MAX_SECONDS {
        errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    errors
}

#[async_trait]
impl Tokens for ServiceAccounts {
    async fn issue(&self, account: &ServiceAccount, request: &mut TokenRequest) -> Result<(), StatusError> {
        let (Some(signing), Some(issuer)) = (&self.signing, self.issuers.first()) else {
            return Err(StatusError::internal("no service account signing key is configured"));
        };
        let spec = request.spec.get_or_insert_default();
        let mut seconds = *spec.expiration_seconds.get_or_insert(DEFAULT_SECONDS);
        let errors = check_spec(seconds);
        if !errors.is_empty() {
            return Err(StatusError::invalid("authentication.k8s.io", "TokenRequest", "", &errors));
        }
        let audiences = spec.audiences.get_or_insert_default();
        if audiences.is_empty() {
            audiences.clone_from(&self.audiences);
        }
        let audiences = audiences.clone();
        if let Some(max) = self.max_seconds
            && seconds > max
        {
            seconds = max;
            spec.expiration_seconds = Some(max);
        }
        let mut private = Private {
            namespace: account.metadata.namespace.clone().unwrap_or_default(),
            serviceaccount: Reference::to(&account.metadata),
            ..Private::default()
        };
        self.bind(account, request, &mut private).await?;
        let now = clock::now().as_second();
        let mut expires = now + seconds;
        let promised = expires;
        if self.extend && seconds == WARN_SECONDS && private.pod.is_some() && audiences == self.audiences {
            private.warnafter = Some(now + seconds);
            expires = now + EXTENDED_SECONDS;
        }
        let claims = Claims {
            aud: audiences,
            exp: expires,
            iat: now,
            iss: issuer.clone(),
            jti: uuid::Uuid::new_v4().to_string(),
            sub: service_account_user(&private.namespace, &private.serviceaccount.name),
            kubernetes: private,
            nbf: now,
        };
        let encoded = serde_json::to_vec(&claims).map_err(StatusError::internal)?;
        let token = signing.sign(&encoded).map_err(StatusError::internal)?;
        let at = jiff::Timestamp::from_second(promised).map_err(StatusError::internal)?;
        request.metadata.name.clone_from(&account.metadata.name);
        request.metadata.namespace.clone_from(&account.metadata.namespace);
        request.status = Some(TokenRequestStatus { expiration_timestamp: Some(Time(at)), token: Some(token) });
        Ok(())
    }

    fn openid_configuration(&self) -> Option<Bytes> {
        let issuer = self.issuers.first().filter(|_| self.signing.is_some())?;
        let mut algorithms: Vec<serde_json::Value> = self.keys.iter().map(|key| key.to_jwk()["alg"].clone()).collect();
        algorithms.sort_by_key(ToString::to_string);
        algorithms.dedup();
        let uri = self.jwks_uri.clone().unwrap_or_else(|| format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')));
        let document = json!({
            "issuer": issuer,
            "jwks_uri": uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        });
        Some(document.to_string().into())
    }

    fn jwks(&self) -> Option<Bytes> {
        self.signing.as_ref()?;
        let keys: Vec<_> = self.keys.iter().map(VerifyingKey::to_jwk).collect();
        Some(json!({ "keys": keys }).to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_have_bounds() {
        let check = |seconds: i64, expected: &str| {
            let errors = check_spec(seconds);
            assert_eq!(errors.0.first().map(ToString::to_string).unwrap_or_default(), expected);
        };
        check(600, "");
        check(10, "spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes");
        check(MAX_SECONDS + 1, "spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds");
        assert!(max_seconds("30m").is_err());
        assert_eq!(max_seconds("48h").ok(), Some(172_800));
    }

    #[test]
    fn claims_are_upstreams() {
        let claims = Claims {
            aud: vec!["a".into()],
            exp: 2,
            iat: 1,
            iss: "i".into(),
            jti: "j".into(),
            kubernetes: Private {
                namespace: "ns".into(),
                pod: Some(Reference { name: "p".into(), uid: "1".into() }),
                serviceaccount: Reference { name: "s".into(), uid: "2".into() },
                warnafter: Some(3),
                ..Private::default()
            },
            nbf: 1,
            sub: "system:serviceaccount:ns:s".into(),
        };
        assert_eq!(
            serde_json::to_string(&claims).unwrap(),
            r#"{"aud":["a"],"exp":2,"iat":1,"iss":"i","jti":"j","kubernetes.io":{"namespace":"ns","pod":{"name":"p","uid":"1"},"serviceaccount":{"name":"s","uid":"2"},"warnafter":3},"nbf":1,"sub":"system:serviceaccount:ns:s"}"#
        );
    }
}

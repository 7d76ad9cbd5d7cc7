//! Reads the API objects that pods refer to: config maps, secrets, service-account tokens. Errors are worded as upstream's kubelet words them.

use api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use api::core::v1::{ConfigMap, Secret, ServiceAccount};
use api::node::v1::RuntimeClass;
use client::Client;
use kube::Api;
use kube::api::PostParams;

/// An object could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("{kind} {name:?} not found")]
    NotFound { kind: &'static str, name: String },
    #[error("failed to fetch {kind} {name:?}: {cause}")]
    Other { kind: &'static str, name: String, cause: String },
}

impl ObjectError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// `kube`'s error as upstream prints a failed request.
pub fn api_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

pub fn has_reason(error: &kube::Error, reason: &str) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == reason)
}

fn failed(kind: &'static str, name: &str, error: &kube::Error) -> ObjectError {
    if has_reason(error, "NotFound") {
        return ObjectError::NotFound { kind, name: name.to_owned() };
    }
    ObjectError::Other { kind, name: name.to_owned(), cause: api_text(error) }
}

/// A token that ends at `expires`.
#[derive(Clone, Debug)]
pub struct Token {
    pub token: String,
    pub expires: jiff::Timestamp,
}

#[derive(Clone)]
pub struct Objects {
    client: Client,
}

impl Objects {
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    pub async fn config_map(&self, namespace: &str, name: &str) -> Result<ConfigMap, ObjectError> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        api.get(name).await.map_err(|error| failed("configmap", name, &error))
    }

    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Secret, ObjectError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        api.get(name).await.map_err(|error| failed("secret", name, &error))
    }

    pub async fn runtime_class(&self, name: &str) -> Result<RuntimeClass, ObjectError> {
        let api: Api<RuntimeClass> = Api::all(self.client.clone());
        api.get(name).await.map_err(|error| failed("RuntimeClass", name, &error))
    }

    /// A token of the service account, bound to the pod. `seconds` is what is asked for; the server may give less.
    pub async fn token(
        &self,
        namespace: &str,
        account: &str,
        pod: (&str, &str),
        audience: &str,
        seconds: i64,
    ) -> Result<Token, ObjectError> {
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(Some(audience.to_owned()).filter(|audience| !audience.is_empty()).into_iter().collect()),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(pod.0.to_owned()),
                    uid: Some(pod.1.to_owned()),
                }),
            }),
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let answer = api.create_token_request(account, &PostParams::default(), &request).await;
        let answer = answer.map_err(|error| failed("token", account, &error))?;
        let given = answer.status.and_then(|status| Some((status.token?, status.expiration_timestamp?.0)));
        let (token, expires) = given.ok_or_else(|| ObjectError::Other {
            kind: "token",
            name: account.to_owned(),
            cause: "the server answered a TokenRequest without a token".into(),
        })?;
        Ok(Token { token, expires })
    }
}

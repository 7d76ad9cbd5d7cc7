//! Who may do what, over the in-process service: tokens, roles, nodes, escalation, admission.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use api::authentication::v1::{BoundObjectReference, SelfSubjectReview, TokenRequest, TokenRequestSpec, TokenReview};
use api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectRulesReview};
use api::core::v1::{Namespace, Node, Pod, ResourceQuota, Secret, ServiceAccount};
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use apiserver::{ApiServer, Options, Service};
use bytes::Bytes;
use client::{Client, InProcessUser};
use http::Request;
use http_body_util::{BodyExt, Full};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use store::{Engine, EngineOptions};
use tower::ServiceExt;

struct Server {
    service: Service,
    tasks: base::Tasks,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

async fn server() -> Server {
    let tasks = base::Tasks::new();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("sa.key");
    std::fs::write(&key, pki::PrivateKey::generate().unwrap().to_pem()).unwrap();
    let mut options = Options::default();
    options.auth.service_account_signing_key_file = Some(key);
    options.auth.service_account_issuer = vec!["https://issuer".into()];
    options.auth.authorization_mode = vec!["Node".into(), "RBAC".into()];
    options.auth.anonymous_auth = true;
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let server = ApiServer::new(options, Arc::new(engine)).unwrap();
    server.start(&tasks).await.unwrap();
    Server { service: server.service(), tasks, _folder: folder }
}

fn from<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

impl Server {
    fn client(&self, name: &str, groups: &[&str]) -> Client {
        client::in_process(self.service.clone(), InProcessUser::new(name, groups))
    }

    fn root(&self) -> Client {
        self.client("root", &["system:masters"])
    }

    fn node(&self, name: &str) -> Client {
        self.client(&format!("system:node:{name}"), &["system:nodes"])
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.service.clone().oneshot(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        let code = response.status().as_u16();
        (code, serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap_or(Value::Null))
    }

    /// A namespace with its default account.
    async fn namespace(&self, name: &str) {
        let root = self.root();
        Api::<Namespace>::all(root.clone()).create(&PostParams::default(), &from(json!({"metadata": {"name": name}}))).await.unwrap();
        self.create::<ServiceAccount>(&root, name, json!({"metadata": {"name": "default"}})).await.unwrap();
    }

    async fn create<K>(&self, client: &Client, namespace: &str, value: Value) -> Result<K, kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
        K: serde::Serialize + serde::de::DeserializeOwned + Clone + std::fmt::Debug,
    {
        Api::<K>::namespaced(client.clone(), namespace).create(&PostParams::default(), &from(value)).await
    }

    async fn token(&self, namespace: &str, account: &str, spec: TokenRequestSpec) -> Result<TokenRequest, kube::Error> {
        let accounts = Api::<ServiceAccount>::namespaced(self.root(), namespace);
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        accounts.create_token_request(account, &PostParams::default(), &request).await
    }
}

fn message<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> String {
    match result.unwrap_err() {
        kube::Error::Api(status) => status.message.clone(),
        other => panic!("{other}"),
    }
}

fn pod(name: &str, node: Option<&str>) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}})
}

#[tokio::test]
async fn anonymous_sees_health_and_version() {
    let server = server().await;
    for (path, expected) in [("/healthz", 200), ("/version", 200), ("/api", 403), ("/api/v1/pods", 403)] {
        assert_eq!(server.get(path, &[]).await.0, expected, "{path}");
    }
    let (code, status) = server.get("/api/v1/namespaces/default/pods", &[]).await;
    let expected =
        "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"";
    assert_eq!((code, status["message"].as_str()), (403, Some(expected)));
    assert_eq!(server.get("/version", &[("authorization", "Bearer junk")]).await.0, 401);
}

#[tokio::test]
async fn tokens_live_with_their_pod() {
    let server = server().await;
    server.namespace("team").await;
    let root = server.root();
    let made: Pod = server.create(&root, "team", pod("p", None)).await.unwrap();
    let bound_object_ref = Some(BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some("p".into()),
        uid: made.metadata.uid.clone(),
    });
    let spec = TokenRequestSpec { bound_object_ref, ..TokenRequestSpec::default() };
    let token = server.token("team", "default", spec.clone()).await.unwrap().status.unwrap().token.unwrap();
    let (code, _) = server.get("/api", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(code, 200);
    let review = async || {
        let asked: TokenReview = from(json!({"spec": {"token": token}}));
        let status = Api::<TokenReview>::all(root.clone()).create(&PostParams::default(), &asked).await.unwrap().status.unwrap();
        (status.authenticated.unwrap_or(false), status.user.unwrap_or_default())
    };
    let (good, user) = review().await;
    assert!(good);
    assert_eq!(user.username.as_deref(), Some("system:serviceaccount:team:default"));
    assert_eq!(user.extra.unwrap()["authentication.kubernetes.io/pod-name"], ["p"]);
    let other = TokenRequestSpec {
        bound_object_ref: spec.bound_object_ref.clone().map(|r| BoundObjectReference { uid: Some("x".into()), ..r }),
        ..TokenRequestSpec::default()
    };
    assert!(message(server.token("team", "default", other).await).contains("does not match the UID in record"));
    Api::<Pod>::namespaced(root.clone(), "team").delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert!(!review().await.0);
    let short = TokenRequestSpec { expiration_seconds: Some(60), ..TokenRequestSpec::default() };
    assert!(message(server.token("team", "default", short).await).contains("may not specify a duration less than 10 minutes"));
}

#[tokio::test]
async fn roles_take_effect_and_cannot_be_exceeded() {
    let server = server().await;
    server.namespace("team").await;
    let (root, jo) = (server.root(), server.client("jo", &[]));
    let pods = Api::<Pod>::namespaced(jo.clone(), "team");
    assert!(message(pods.list(&ListParams::default()).await).starts_with("pods is forbidden: User \"jo\" cannot list"));
    let bind = |role: &str| {
        let group = "rbac.authorization.k8s.io";
        json!({"metadata": {"name": role}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": "jo"}]})
    };
    let _: RoleBinding = server.create(&root, "team", bind("admin")).await.unwrap();
    pods.list(&ListParams::default()).await.unwrap();
    let role =
        |verbs: Value| json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": verbs}]});
    let refused = message(server.create::<Role>(&jo, "team", role(json!(["get", "list"]))).await);
    assert_eq!(
        refused,
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jo\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"nodes\"], Verbs:[\"get\" \"list\"]}"
    );
    assert!(message(server.create::<RoleBinding>(&jo, "team", bind("cluster-admin")).await).contains("not currently held"));
    let _: RoleBinding = server.create(&jo, "team", bind("view")).await.unwrap();
    let review: SelfSubjectAccessReview =
        from(json!({"spec": {"resourceAttributes": {"verb": "delete", "resource": "pods", "namespace": "team"}}}));
    let status = Api::all(jo.clone()).create(&PostParams::default(), &review).await.unwrap().status.unwrap();
    assert!(status.allowed);
    let rules: SelfSubjectRulesReview = from(json!({"spec": {"namespace": "team"}}));
    let rules = Api::all(jo.clone()).create(&PostParams::default(), &rules).await.unwrap().status.unwrap();
    assert!(!rules.incomplete && rules.resource_rules.len() > 20 && !rules.non_resource_rules.is_empty());
}

#[tokio::test]
async fn aggregated_roles_follow_their_parts() {
    let server = server().await;
    let root = server.root();
    let part: ClusterRole = from(json!({
        "metadata": {"name": "part", "labels": {"acme.com/aggregate": "true"}},
        "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]}],
    }));
    let whole: ClusterRole = from(json!({
        "metadata": {"name": "whole"}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"acme.com/aggregate": "true"}}]},
    }));
    let roles = Api::<ClusterRole>::all(root.clone());
    roles.create(&PostParams::default(), &whole).await.unwrap();
    let group = "rbac.authorization.k8s.io";
    let binding: ClusterRoleBinding = from(json!({
        "metadata": {"name": "b"}, "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "whole"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "jo"}],
    }));
    Api::all(root.clone()).create(&PostParams::default(), &binding).await.unwrap();
    let nodes = Api::<Node>::all(server.client("jo", &[]));
    assert!(nodes.list(&ListParams::default()).await.is_err());
    roles.create(&PostParams::default(), &part).await.unwrap();
    // The cache follows the store within moments.
    while nodes.list(&ListParams::default()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_second_start_writes_no_defaults() {
    let tasks = base::Tasks::new();
    let engine: Arc<dyn store::Kv> = Arc::new(Engine::in_memory(EngineOptions::default(), &tasks));
    let mut versions = Vec::new();
    for _ in 0..2 {
        let mut options = Options::default();
        options.auth.authorization_mode = vec!["RBAC".into()];
        let server = ApiServer::new(options, engine.clone()).unwrap();
        server.start(&tasks).await.unwrap();
        let root = client::in_process(server.service(), InProcessUser::new("root", &["system:masters"]));
        let roles = Api::<ClusterRole>::all(root.clone()).list(&ListParams::default()).await.unwrap();
        let bindings = Api::<ClusterRoleBinding>::all(root.clone()).list(&ListParams::default()).await.unwrap();
        let local = Api::<Role>::all(root.clone()).list(&ListParams::default()).await.unwrap();
        let of = |meta: &api::meta::v1::ObjectMeta| (meta.name.clone(), meta.resource_version.clone());
        let roles = roles.items.iter().map(|o| of(&o.metadata));
        let bindings = bindings.items.iter().map(|o| of(&o.metadata));
        versions.push(roles.chain(bindings).chain(local.items.iter().map(|o| of(&o.metadata))).collect::<Vec<_>>());
    }
    assert!(versions[0].len() > 100);
    assert_eq!(versions[0], versions[1]);
    tasks.stop();
}

#[tokio::test]
async fn nodes_keep_to_their_own() {
    let server = server().await;
    server.namespace("team").await;
    let (root, node) = (server.root(), server.node("n1"));
    for name in ["used", "other"] {
        let _: Secret = server.create(&root, "team", json!({"metadata": {"name": name}})).await.unwrap();
    }
    let mut mine = pod("p", Some("n1"));
    mine["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "used"}}]);
    let _: Pod = server.create(&root, "team", mine).await.unwrap();
    let _: Pod = server.create(&root, "team", pod("q", Some("n2"))).await.unwrap();
    let secrets = Api::<Secret>::namespaced(node.clone(), "team");
    while secrets.get("used").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert!(message(secrets.get("other").await).ends_with("no relationship found between node 'n1' and this object"));
    let pods = Api::<Pod>::namespaced(node.clone(), "team");
    assert_eq!(pods.list(&ListParams::default().fields("spec.nodeName=n1")).await.unwrap().items.len(), 1);
    assert!(pods.list(&ListParams::default()).await.is_err());
    assert!(message(pods.delete("q", &DeleteParams::default()).await).contains("can only delete pods with spec.nodeName set to itself"));
    let nodes = Api::<Node>::all(node.clone());
    let made = nodes.create(&PostParams::default(), &from(json!({"metadata": {"name": "n1"}}))).await.unwrap();
    assert_eq!(made.spec.unwrap().taints.unwrap()[0].key, "node.kubernetes.io/not-ready");
    assert!(nodes.create(&PostParams::default(), &from(json!({"metadata": {"name": "n2"}}))).await.is_err());
    let label = Patch::Merge(json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}}));
    assert!(message(nodes.patch("n1", &PatchParams::default(), &label).await).contains("is not allowed to modify labels"));
}

#[tokio::test]
async fn impersonation_needs_leave() {
    let server = server().await;
    let token = {
        server.namespace("team").await;
        server.token("team", "default", TokenRequestSpec::default()).await.unwrap().status.unwrap().token.unwrap()
    };
    let bearer = format!("Bearer {token}");
    let (code, status) = server.get("/api", &[("authorization", &bearer), ("impersonate-user", "root")]).await;
    assert_eq!(code, 403, "{status}");
    let review: SelfSubjectReview = SelfSubjectReview::default();
    let me = Api::<SelfSubjectReview>::all(server.client("system:serviceaccount:team:default", &[]));
    let user = me.create(&PostParams::default(), &review).await.unwrap().status.unwrap().user_info.unwrap();
    assert_eq!(user.groups.unwrap(), ["system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"]);
}

#[tokio::test]
async fn pods_are_completed_and_namespaces_guarded() {
    let server = server().await;
    server.namespace("team").await;
    let root = server.root();
    let made: Pod = server.create(&root, "team", pod("p", None)).await.unwrap();
    let spec = made.spec.unwrap();
    assert_eq!((spec.service_account_name.as_deref(), spec.priority), (Some("default"), Some(0)));
    assert_eq!(spec.tolerations.unwrap().len(), 2);
    assert!(spec.containers[0].volume_mounts.as_ref().unwrap()[0].name.starts_with("kube-api-access-"));
    assert_eq!(message(server.create::<Secret>(&root, "none", json!({"metadata": {"name": "a"}})).await), "namespaces \"none\" not found");
    let namespaces = Api::<Namespace>::all(root.clone());
    let refused = message(namespaces.delete("default", &DeleteParams::default()).await);
    assert_eq!(refused, "namespaces \"default\" is forbidden: this namespace may not be deleted");
    namespaces.delete("team", &DeleteParams::default()).await.unwrap();
    let refused = message(server.create::<Secret>(&root, "team", json!({"metadata": {"name": "a"}})).await);
    assert_eq!(refused, "secrets \"a\" is forbidden: unable to create new content in namespace team because it is being terminated");
}

#[tokio::test]
async fn quotas_are_charged() {
    let server = server().await;
    server.namespace("team").await;
    let root = server.root();
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1", "count/secrets": "5"}}});
    let _: ResourceQuota = server.create(&root, "team", quota).await.unwrap();
    let quotas = Api::<ResourceQuota>::namespaced(root.clone(), "team");
    // What the resourcequota controller does first.
    let status = json!({"status": {"hard": {"pods": "1", "count/secrets": "5"}, "used": {"pods": "0", "count/secrets": "0"}}});
    quotas.patch_status("q", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    while server.create::<Secret>(&root, "team", json!({"metadata": {"generateName": "a"}})).await.is_ok() {}
    let _: Pod = server.create(&root, "team", pod("p", None)).await.unwrap();
    let used = || async { quotas.get("q").await.unwrap().status.unwrap().used.unwrap() };
    assert_eq!((used().await["pods"].0.as_str(), used().await["count/secrets"].0.as_str()), ("1", "5"));
    let refused = message(server.create::<Pod>(&root, "team", pod("q", None)).await);
    assert_eq!(refused, "pods \"q\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1");
}

//! The default roles and bindings of v1.36, as data (plugin/pkg/auth/authorizer/rbac/bootstrappolicy).

use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};

use super::controllers;
use super::policy::{
    EVENTS, READ, READ_UPDATE, READ_WRITE, Rule, WRITE, account, aggregating_role, binding, cluster_binding, cluster_role, group, named,
    on, role, rules, urls, user,
};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";
const COORDINATION: &str = "coordination.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";

const REVIEWS: [Rule; 2] = [on("create", AUTHENTICATION, "tokenreviews"), on("create", AUTHORIZATION, "subjectaccessreviews")];

const NODE: &[Rule] = &[
    on("create", AUTHENTICATION, "tokenreviews"),
    on("create", AUTHORIZATION, "localsubjectaccessreviews subjectaccessreviews"),
    on(READ, "core", "services"),
    on("create get list watch", "core", "nodes"),
    on("patch update", "core", "nodes/status"),
    on("patch update", "core", "nodes"),
    on("create patch update", "core events.k8s.io", "events"),
    on(READ, "core", "pods"),
    on("create delete", "core", "pods"),
    on("patch update", "core", "pods/status"),
    on("create", "core", "pods/eviction"),
    on(READ, "core", "configmaps secrets"),
    on("get", "core", "persistentvolumeclaims persistentvolumes"),
    on("get", "core", "endpoints"),
    on("create get list watch", CERTIFICATES, "certificatesigningrequests"),
    on("create delete get patch update", COORDINATION, "leases"),
    on("get", STORAGE, "volumeattachments"),
    on("create", "core", "serviceaccounts/token"),
    on("get", "core", "serviceaccounts"),
    on("get patch update", "core", "persistentvolumeclaims/status"),
    on(READ, STORAGE, "csidrivers"),
    on("create delete get patch update", STORAGE, "csinodes"),
    on(READ, "node.k8s.io", "runtimeclasses"),
    on("get", RESOURCE, "resourceclaims"),
    on(READ_WRITE, RESOURCE, "resourceslices"),
    on(READ, CERTIFICATES, "clustertrustbundles"),
    on("create get list watch", CERTIFICATES, "podcertificaterequests"),
];

/// What the Node authorizer lets every node do, where it does not look closer.
pub fn node_rules() -> Vec<PolicyRule> {
    rules(NODE)
}

const EDIT: &[Rule] = &[
    on(READ, "core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
    on("impersonate", "core", "serviceaccounts"),
    on(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
    on("create", "core", "pods/eviction"),
    on("patch update", "core", "pods/resize"),
    on(
        WRITE,
        "core",
        "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    on("create", "core", "serviceaccounts/token"),
    on(
        WRITE,
        "apps",
        "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale",
    ),
    on(WRITE, "autoscaling", "horizontalpodautoscalers"),
    on(WRITE, "batch", "cronjobs jobs"),
    on(
        WRITE,
        "extensions",
        "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale",
    ),
    on(WRITE, "policy", "poddisruptionbudgets"),
    on(WRITE, NETWORKING, "ingresses networkpolicies"),
    on(READ_WRITE, COORDINATION, "leases"),
    on(WRITE, RESOURCE, "resourceclaims resourceclaimtemplates"),
];

const VIEW: &[Rule] = &[
    on(
        READ,
        "core",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
    ),
    on(
        READ,
        "core",
        "bindings events limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    on(READ, "core", "namespaces"),
    on(READ, DISCOVERY, "endpointslices"),
    on(
        READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
    ),
    on(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    on(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    on(
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale",
    ),
    on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    on(READ, NETWORKING, "ingresses ingresses/status networkpolicies"),
    on(READ, RESOURCE, "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

const CONTROLLER_MANAGER: &[Rule] = &[
    EVENTS,
    on("create", COORDINATION, "leases"),
    named("get update", COORDINATION, "leases", "kube-controller-manager"),
    on("create", "core", "secrets serviceaccounts"),
    on("delete", "core", "secrets"),
    on("get", "core", "configmaps namespaces secrets serviceaccounts"),
    on("update", "core", "secrets serviceaccounts"),
    REVIEWS[0],
    REVIEWS[1],
    on("list watch", "*", "*"),
    on("create", "core", "serviceaccounts/token"),
];

const SCHEDULER: &[Rule] = &[
    EVENTS,
    on("create", COORDINATION, "leases"),
    named("get update", COORDINATION, "leases", "kube-scheduler"),
    on(READ, "core", "nodes"),
    on("delete get list watch", "core", "pods"),
    on("create", "core", "bindings pods/binding"),
    on("patch update", "core", "pods/status"),
    on(READ, "core", "replicationcontrollers services"),
    on(READ, "apps extensions", "replicasets"),
    on(READ, "apps", "statefulsets"),
    on(READ, "policy", "poddisruptionbudgets"),
    on(READ, "core", "persistentvolumeclaims persistentvolumes"),
    REVIEWS[0],
    REVIEWS[1],
    on(READ, STORAGE, "csinodes"),
    on(READ, "core", "namespaces"),
    on(READ, STORAGE, "csidrivers"),
    on(READ, STORAGE, "csistoragecapacities"),
    on(READ, STORAGE, "volumeattachments"),
    on(READ, RESOURCE, "deviceclasses resourceslices"),
    on("get list patch update watch", RESOURCE, "resourceclaims"),
    on("patch update", RESOURCE, "resourceclaims/status"),
    on("update", "core", "pods/finalizers"),
];

const SMALL: &[(&str, &[Rule])] = &[
    ("cluster-admin", &[on("*", "*", "*"), urls("*", "*")]),
    ("system:discovery", &[urls("get", "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/")]),
    ("system:monitoring", &[urls("get", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")]),
    (
        "system:basic-user",
        &[
            on("create", AUTHORIZATION, "selfsubjectaccessreviews selfsubjectrulesreviews"),
            on("create", AUTHENTICATION, "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", &[urls("get", "/healthz /livez /readyz /version /version/")]),
    ("system:heapster", &[on(READ, "core", "events namespaces nodes pods"), on(READ, "extensions", "deployments")]),
    ("system:node", NODE),
    ("system:node-problem-detector", &[on("get", "core", "nodes"), on("patch", "core", "nodes/status"), EVENTS]),
    (
        "system:kubelet-api-admin",
        &[
            on(READ, "core", "nodes"),
            on("proxy", "core", "nodes"),
            on("*", "core", "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/stats"),
        ],
    ),
    ("system:node-bootstrapper", &[on("create get list watch", CERTIFICATES, "certificatesigningrequests")]),
    ("system:auth-delegator", &REVIEWS),
    ("system:kube-aggregator", &[on(READ, "core", "endpoints services")]),
    ("system:kube-controller-manager", CONTROLLER_MANAGER),
    ("system:kube-dns", &[on("list watch", "core", "endpoints services")]),
    ("system:kube-scheduler", SCHEDULER),
    (
        "system:persistent-volume-provisioner",
        &[
            on("create delete get list watch", "core", "persistentvolumes"),
            on("get list update watch", "core", "persistentvolumeclaims"),
            on(READ, STORAGE, "storageclasses"),
            on("watch", "core", "events"),
            EVENTS,
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[on("create", CERTIFICATES, "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[on("create", CERTIFICATES, "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:volume-scheduler",
        &[
            on(READ_UPDATE, "core", "persistentvolumes"),
            on(READ, STORAGE, "storageclasses"),
            on(READ_UPDATE, "core", "persistentvolumeclaims"),
        ],
    ),
    ("system:certificates.k8s.io:legacy-unknown-approver", &[named("approve", CERTIFICATES, "signers", "kubernetes.io/legacy-unknown")]),
    ("system:certificates.k8s.io:kubelet-serving-approver", &[named("approve", CERTIFICATES, "signers", "kubernetes.io/kubelet-serving")]),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[named("approve", CERTIFICATES, "signers", "kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    ("system:service-account-issuer-discovery", &[urls("get", "/.well-known/openid-configuration /openid/v1/jwks")]),
    (
        "system:node-proxier",
        &[
            on("list watch", "core", "endpoints services"),
            on(READ, "core", "nodes"),
            EVENTS,
            on("list watch", DISCOVERY, "endpointslices"),
            on("list watch", NETWORKING, "servicecidrs"),
        ],
    ),
];

pub fn cluster_roles() -> Vec<ClusterRole> {
    let mut roles = vec![
        aggregating_role("admin", &[]),
        aggregating_role("edit", &["admin"]),
        aggregating_role("view", &["edit"]),
        cluster_role(
            "system:aggregate-to-admin",
            &["admin"],
            &[on("create", AUTHORIZATION, "localsubjectaccessreviews"), on(READ_WRITE, "rbac.authorization.k8s.io", "rolebindings roles")],
        ),
        cluster_role("system:aggregate-to-edit", &["edit"], EDIT),
        cluster_role("system:aggregate-to-view", &["view"], VIEW),
    ];
    roles.extend(SMALL.iter().map(|(name, list)| cluster_role(name, &[], list)));
    roles.extend(controllers::roles());
    roles
}

pub fn cluster_role_bindings() -> Vec<ClusterRoleBinding> {
    let mut bindings = vec![
        cluster_binding("cluster-admin", vec![group("system:masters")]),
        cluster_binding("system:monitoring", vec![group("system:monitoring")]),
        cluster_binding("system:discovery", vec![group("system:authenticated")]),
        cluster_binding("system:basic-user", vec![group("system:authenticated")]),
        cluster_binding("system:public-info-viewer", vec![group("system:authenticated"), group("system:unauthenticated")]),
        cluster_binding("system:node-proxier", vec![user("system:kube-proxy")]),
        cluster_binding("system:kube-controller-manager", vec![user("system:kube-controller-manager")]),
        cluster_binding("system:kube-dns", vec![account("kube-system", "kube-dns")]),
        cluster_binding("system:kube-scheduler", vec![user("system:kube-scheduler")]),
        cluster_binding("system:volume-scheduler", vec![user("system:kube-scheduler")]),
        // Nobody: nodes are the Node authorizer's.
        cluster_binding("system:node", vec![]),
        cluster_binding("system:service-account-issuer-discovery", vec![group("system:serviceaccounts")]),
    ];
    bindings.extend(controllers::bindings());
    bindings
}

const SYSTEM: &str = "kube-system";
const PUBLIC: &str = "kube-public";

pub fn roles() -> Vec<Role> {
    vec![
        role(
            SYSTEM,
            "extension-apiserver-authentication-reader",
            &[named(READ, "core", "configmaps", "extension-apiserver-authentication")],
        ),
        role(SYSTEM, "system:controller:bootstrap-signer", &[on(READ, "core", "secrets")]),
        role(SYSTEM, "system:controller:cloud-provider", &[on("create get list watch", "core", "configmaps")]),
        role(SYSTEM, "system:controller:token-cleaner", &[on("delete get list watch", "core", "secrets"), EVENTS]),
        role(
            SYSTEM,
            "system::leader-locking-kube-controller-manager",
            &[
                on("watch", "core", "configmaps"),
                named("get update", "core", "configmaps", "kube-controller-manager"),
                on("create get list update watch", COORDINATION, "leases"),
            ],
        ),
        role(
            SYSTEM,
            "system::leader-locking-kube-scheduler",
            &[on("watch", "core", "configmaps"), named("get update", "core", "configmaps", "kube-scheduler")],
        ),
        role(
            PUBLIC,
            "system:controller:bootstrap-signer",
            &[on(READ, "core", "configmaps"), named("update", "core", "configmaps", "cluster-info"), EVENTS],
        ),
    ]
}

pub fn role_bindings() -> Vec<RoleBinding> {
    let same = |namespace: &str, name: &str, subjects| binding(namespace, name, name, subjects);
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    vec![
        binding(
            SYSTEM,
            "system::extension-apiserver-authentication-reader",
            "extension-apiserver-authentication-reader",
            vec![user(manager), user(scheduler)],
        ),
        same(
            SYSTEM,
            "system::leader-locking-kube-controller-manager",
            vec![user(manager), account(SYSTEM, "kube-controller-manager"), account(SYSTEM, "leader-election-controller")],
        ),
        same(SYSTEM, "system::leader-locking-kube-scheduler", vec![user(scheduler), account(SYSTEM, "kube-scheduler")]),
        same(SYSTEM, "system:controller:bootstrap-signer", vec![account(SYSTEM, "bootstrap-signer")]),
        same(SYSTEM, "system:controller:cloud-provider", vec![account(SYSTEM, "cloud-provider")]),
        same(SYSTEM, "system:controller:token-cleaner", vec![account(SYSTEM, "token-cleaner")]),
        same(PUBLIC, "system:controller:bootstrap-signer", vec![account(SYSTEM, "bootstrap-signer")]),
    ]
}

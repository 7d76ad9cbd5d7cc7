//! A small object of every row that can be created as it is.

use serde_json::{Value, json};

use crate::kind::KindInfo;

/// Without apiVersion and kind: the walk adds them, and the namespace.
pub fn fixture(info: &KindInfo) -> Option<Value> {
    let value = match info.group {
        "" => core(info.kind)?,
        "apps" | "batch" | "autoscaling" | "policy" => workloads(info.version, info.kind)?,
        "networking.k8s.io" | "discovery.k8s.io" | "events.k8s.io" | "coordination.k8s.io" => network(info.kind)?,
        "authentication.k8s.io" | "authorization.k8s.io" | "rbac.authorization.k8s.io" | "certificates.k8s.io" => access(info.kind)?,
        "storage.k8s.io" | "node.k8s.io" | "scheduling.k8s.io" | "resource.k8s.io" => node(info.kind)?,
        _ => server(info.kind)?,
    };
    Some(named(value))
}

fn named(mut value: Value) -> Value {
    if value["metadata"].is_null() {
        value["metadata"] = json!({"name": "web"});
    }
    value
}

fn pod_spec() -> Value {
    json!({
        "initContainers": [{"name": "log", "image": "log:1", "restartPolicy": "Always"}],
        "containers": [{
            "name": "web", "image": "web:1",
            "ports": [{"name": "http", "containerPort": 80}],
            "env": [{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": "0.5", "memory": "64Mi"}},
            "readinessProbe": {"httpGet": {"port": "http"}},
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]
        }],
        "volumes": [{"name": "tmp"}, {"name": "conf", "configMap": {"name": "conf"}}],
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]
    })
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": pod_spec()})
}

fn job_spec() -> Value {
    let mut spec = json!({"template": {"spec": pod_spec()}});
    spec["template"]["spec"]["restartPolicy"] = json!("Never");
    spec
}

fn selector() -> Value {
    json!({"matchLabels": {"app": "web"}})
}

fn core(kind: &str) -> Option<Value> {
    Some(match kind {
        "Binding" => json!({"target": {"kind": "Node", "name": "a"}}),
        "ComponentStatus" => json!({"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]}),
        "ConfigMap" => json!({"data": {"a": "b"}, "binaryData": {"c": "AAE="}}),
        "Endpoints" => json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
        "Event" => json!({"involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"}, "reason": "Started", "type": "Normal"}),
        "LimitRange" => json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
        "Namespace" | "ServiceAccount" => json!({}),
        "Node" => json!({"spec": {"podCIDR": "10.244.0.0/24", "taints": [{"key": "a", "effect": "NoSchedule"}]}}),
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"}}})
        }
        "PersistentVolumeClaim" => json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        "Pod" => json!({"spec": pod_spec()}),
        "PodTemplate" => json!({"template": template()}),
        "ReplicationController" => json!({"spec": {"template": template()}}),
        "ResourceQuota" => json!({"spec": {"hard": {"pods": "10", "requests.cpu": "4"}}}),
        "Secret" => json!({"stringData": {"a": "b"}}),
        "Service" => json!({"spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "http"}]}}),
        _ => return None,
    })
}

fn workloads(version: &str, kind: &str) -> Option<Value> {
    Some(match kind {
        "ControllerRevision" => json!({"revision": 1, "data": {"spec": {}}}),
        "DaemonSet" | "Deployment" | "ReplicaSet" => json!({"spec": {"selector": selector(), "template": template()}}),
        "StatefulSet" => json!({"spec": {
            "selector": selector(), "template": template(), "serviceName": "web",
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            }]
        }}),
        "Job" => json!({"spec": job_spec()}),
        "CronJob" => json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": job_spec()}}}),
        "PodDisruptionBudget" => json!({"spec": {"minAvailable": 1, "selector": selector()}}),
        "HorizontalPodAutoscaler" => {
            let mut spec = json!({"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
            if version == "v1" {
                spec["targetCPUUtilizationPercentage"] = json!(50);
            }
            json!({ "spec": spec })
        }
        _ => return None,
    })
}

fn network(kind: &str) -> Option<Value> {
    Some(match kind {
        "Ingress" => json!({"spec": {"rules": [{"host": "a.example.com", "http": {"paths": [{
            "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}
        }]}}]}}),
        "IngressClass" => json!({"spec": {"controller": "example.com/ingress"}}),
        "NetworkPolicy" => {
            json!({"spec": {"podSelector": {}, "ingress": [{"ports": [{"port": 80}], "from": [{"podSelector": selector()}]}]}})
        }
        "IPAddress" => {
            json!({"metadata": {"name": "10.0.0.1"}, "spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}})
        }
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.96.0.0/16"]}}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 80}]}),
        "Event" => json!({
            "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "example.com/x", "reportingInstance": "x-1",
            "action": "Start", "reason": "Started", "type": "Normal", "note": "it runs",
            "regarding": {"kind": "Pod", "name": "web", "namespace": "default"}
        }),
        "Lease" => json!({"spec": {"holderIdentity": "a", "leaseDurationSeconds": 40}}),
        _ => return None,
    })
}

fn access(kind: &str) -> Option<Value> {
    let rules = || json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let subjects = || json!([{"kind": "User", "name": "ann"}, {"kind": "ServiceAccount", "name": "a", "namespace": "default"}]);
    let pods = || json!({"namespace": "default", "verb": "get", "resource": "pods"});
    Some(match kind {
        "Role" | "ClusterRole" => json!({"rules": rules()}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": {"kind": "ClusterRole", "name": "view"}, "subjects": subjects()}),
        "CertificateSigningRequest" => json!({"spec": {
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
            // "-----BEGIN CERTIFICATE REQUEST-----"
            "request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0="
        }}),
        "SelfSubjectReview" | "SelfSubjectRulesReview" => json!({"spec": {"namespace": "default"}}),
        "TokenReview" => json!({"spec": {"token": "x"}}),
        "SelfSubjectAccessReview" => json!({"spec": {"resourceAttributes": pods()}}),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => json!({"spec": {"user": "ann", "resourceAttributes": pods()}}),
        _ => return None,
    })
}

fn node(kind: &str) -> Option<Value> {
    let devices = || json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}}]}});
    Some(match kind {
        "CSIDriver" => json!({"spec": {}}),
        "CSINode" => json!({"spec": {"drivers": [{"name": "csi.example.com", "nodeID": "a"}]}}),
        "CSIStorageCapacity" => json!({"storageClassName": "fast", "capacity": "1Gi"}),
        "StorageClass" => json!({"provisioner": "csi.example.com"}),
        "VolumeAttachment" => json!({"spec": {"attacher": "csi.example.com", "nodeName": "a", "source": {"persistentVolumeName": "pv"}}}),
        "VolumeAttributesClass" => json!({"driverName": "csi.example.com", "parameters": {"iops": "1"}}),
        "RuntimeClass" => json!({"handler": "runc"}),
        "PriorityClass" => json!({"value": 1000}),
        "DeviceClass" => json!({"spec": {}}),
        "ResourceClaim" => json!({"spec": devices()}),
        "ResourceClaimTemplate" => json!({"spec": {"spec": devices()}}),
        "ResourceSlice" => json!({"spec": {
            "driver": "gpu.example.com", "nodeName": "a", "pool": {"name": "a", "generation": 1, "resourceSliceCount": 1}
        }}),
        _ => return None,
    })
}

fn server(kind: &str) -> Option<Value> {
    let rules = || json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let webhooks = || {
        json!([{
            "name": "pods.hooks.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None", "rules": rules(),
            "clientConfig": {"service": {"name": "hook", "namespace": "default"}}
        }])
    };
    Some(match kind {
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => json!({"webhooks": webhooks()}),
        "ValidatingAdmissionPolicy" => json!({"spec": {
            "matchConstraints": {"resourceRules": rules()}, "validations": [{"expression": "true"}]
        }}),
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "a", "validationActions": ["Deny"]}}),
        "MutatingAdmissionPolicy" => json!({"spec": {
            "matchConstraints": {"resourceRules": rules()}, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]
        }}),
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "a"}}),
        "CustomResourceDefinition" => json!({
            "metadata": {"name": "boats.sea.example.com"},
            "spec": {
                "group": "sea.example.com", "scope": "Namespaced", "names": {"plural": "boats", "kind": "Boat"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]
            }
        }),
        "APIService" => json!({
            "metadata": {"name": "v1.sea.example.com"},
            "spec": {"group": "sea.example.com", "version": "v1", "groupPriorityMinimum": 1000, "versionPriority": 15}
        }),
        "FlowSchema" => json!({"spec": {
            "priorityLevelConfiguration": {"name": "a"},
            "rules": [{
                "subjects": [{"kind": "Group", "group": {"name": "system:authenticated"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}]
            }]
        }}),
        "PriorityLevelConfiguration" => {
            json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}})
        }
        _ => return None,
    })
}

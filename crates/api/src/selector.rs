//! Label and field selectors (apimachinery/pkg/labels, pkg/fields).

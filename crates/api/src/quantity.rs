//! Quantities as numbers (apimachinery/pkg/api/resource).

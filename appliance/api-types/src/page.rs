//! Lists, a page at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest number of items a page may hold.
pub const MAX_PAGE_ITEMS: u32 = 1000;

/// The number of items on a page when the request doesn't say.
pub const DEFAULT_PAGE_ITEMS: u32 = 100;

/// One page of a list. The order is stable: by creation, then by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Give this as `next_token` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

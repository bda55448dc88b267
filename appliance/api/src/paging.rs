//! Lists, a page at a time, in an order that does not change between pages.

use api_types::{DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS, Page};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use types::Timestamp;
use utoipa::IntoParams;

use crate::problem::{ApiProblem, ApiResult};

/// Which page.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// How many items at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// `next_token` of the page before.
    pub next_token: Option<String>,
}

/// Where an item is in its list: by time, then by id. An item keeps its place for life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(pub Timestamp, pub String);

impl Place {
    fn to_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.0.unix_millis(), self.1))
    }

    fn from_token(token: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let (millis, id) = text.split_once(' ')?;
        Some(Self(
            Timestamp::from_unix_millis(millis.parse().ok()?)?,
            id.to_owned(),
        ))
    }
}

/// The page of `items` that `limit` and `next_token` ask for, each item turned into its wire type.
pub(crate) fn page<T, W>(
    mut items: Vec<T>,
    limit: Option<u32>,
    next_token: Option<&str>,
    place: impl Fn(&T) -> Place,
    wire: impl FnMut(T) -> W,
) -> ApiResult<Page<W>> {
    let limit = match limit {
        None => DEFAULT_PAGE_ITEMS,
        Some(limit @ 1..=MAX_PAGE_ITEMS) => limit,
        Some(limit) => {
            return Err(ApiProblem::invalid(
                "limit",
                format!("a limit of {limit} is not 1 to {MAX_PAGE_ITEMS}"),
            ));
        }
    };
    let after = next_token
        .map(|token| {
            Place::from_token(token).ok_or_else(|| {
                ApiProblem::invalid(
                    "next_token",
                    "the token is not one that a page of this list gave",
                )
            })
        })
        .transpose()?;
    items.sort_by_cached_key(&place);
    let begin = after.map_or(0, |after| {
        items.partition_point(|item| place(item) <= after)
    });
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let end = begin.saturating_add(limit).min(items.len());
    let next_token = (end < items.len() && end > begin).then(|| place(&items[end - 1]).to_token());
    let items = items.drain(begin..end).map(wire).collect();
    Ok(Page { items, next_token })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(item: &(i64, &str)) -> Place {
        Place(
            Timestamp::from_unix_millis(item.0).unwrap(),
            item.1.to_owned(),
        )
    }

    fn all(
        mut items: Vec<(i64, &'static str)>,
        limit: u32,
        drop_after_first: Option<&str>,
    ) -> Vec<&'static str> {
        let mut seen = Vec::new();
        let mut token = None;
        for _ in 0..100 {
            let page = page(
                items.clone(),
                Some(limit),
                token.as_deref(),
                place,
                |item| item.1,
            )
            .unwrap();
            assert!(page.items.len() <= usize::try_from(limit).unwrap());
            seen.extend(page.items);
            if let Some(gone) = drop_after_first {
                items.retain(|item| item.1 != gone);
            }
            token = page.next_token;
            if token.is_none() {
                return seen;
            }
        }
        panic!("the list does not end: {seen:?}");
    }

    #[test]
    fn every_item_comes_once_in_order_whatever_the_limit() {
        let items = vec![(5, "e"), (1, "b"), (1, "a"), (-3, "z"), (9, "c")];
        for limit in 1..=6 {
            assert_eq!(
                all(items.clone(), limit, None),
                ["z", "a", "b", "e", "c"],
                "limit {limit}"
            );
        }
        assert!(all(Vec::new(), 1, None).is_empty());
    }

    #[test]
    fn a_deletion_between_pages_loses_no_other_item() {
        let items = vec![(1, "a"), (2, "b"), (3, "c"), (4, "d")];
        // `b` was on the first page and is the token's item; `a` was before it.
        for gone in ["a", "b"] {
            assert_eq!(all(items.clone(), 2, Some(gone)), ["a", "b", "c", "d"]);
        }
    }

    #[test]
    fn limits_and_tokens_are_checked() {
        let ask = |limit, token| page(vec![(1, "a")], limit, token, place, |item| item.1);
        for limit in [0, 1001, u32::MAX] {
            assert_eq!(
                ask(Some(limit), None)
                    .unwrap_err()
                    .with_request_id("")
                    .field
                    .as_deref(),
                Some("limit")
            );
        }
        for token in ["", "x", "!!!", "MSA", "YSBi"] {
            let answer = ask(None, Some(token));
            if token == "MSA" {
                // "1 ": a place, though of no item.
                answer.unwrap();
            } else {
                assert_eq!(
                    answer.unwrap_err().with_request_id("").field.as_deref(),
                    Some("next_token"),
                    "{token}"
                );
            }
        }
    }
}

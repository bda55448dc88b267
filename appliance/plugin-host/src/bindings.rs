//! The worlds of the WIT package `ashlar:policy`, as Rust.

#[allow(missing_docs, reason = "generated; the WIT files document every field")]
pub(crate) mod scheduler {
    wasmtime::component::bindgen!({
        path: "../../plugins/wit",
        world: "scheduler",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

#[allow(missing_docs, reason = "generated; the WIT files document every field")]
pub(crate) mod billing {
    wasmtime::component::bindgen!({
        path: "../../plugins/wit",
        world: "billing",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "ashlar:policy/log": super::scheduler::ashlar::policy::log,
            "ashlar:policy/random": super::scheduler::ashlar::policy::random,
        },
    });
}

#[allow(missing_docs, reason = "generated; the WIT files document every field")]
pub(crate) mod admission {
    wasmtime::component::bindgen!({
        path: "../../plugins/wit",
        world: "admission",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: {
            "ashlar:policy/log": super::scheduler::ashlar::policy::log,
            "ashlar:policy/random": super::scheduler::ashlar::policy::random,
        },
    });
}

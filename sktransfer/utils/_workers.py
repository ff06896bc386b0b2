"""Which process has pickled an object, and whether this one works for it."""

import multiprocessing
import os
import sys
from typing import Any


def own_address() -> dict[str, Any]:
    """Return what identifies this process, or its job in a cluster of Ray."""
    return {"pid": os.getpid(), "ray_job": _ray_job()}


def works_for(address: dict[str, Any]) -> bool:
    """Return whether this process is a worker of the one with an address.

    Workers of joblib and of Dask's ``LocalCluster`` are its child processes. Those of
    Ray are started by the cluster, on any of its machines, and belong to one job.
    """
    if multiprocessing.current_process().name != "MainProcess":
        return address["pid"] == os.getppid()
    job = address.get("ray_job")
    return job is not None and job == _ray_job() and _is_worker_of_ray()


def _ray_job():
    """Return what identifies the job of Ray that this process is part of, if any."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return None
    context = ray.get_runtime_context()
    return context.namespace, context.get_job_id()


def _is_worker_of_ray():
    ray = sys.modules["ray"]
    return ray.get_runtime_context().worker.mode == ray.WORKER_MODE

"""The lock for looking at the code of libraries, or for replacing parts of it.

While torch.fx traces a network, it replaces methods of torch in the whole process. In
another thread, a description would take that for what the user has replaced.
"""

import os
import threading

library_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(
        before=library_lock.acquire,
        after_in_parent=library_lock.release,
        after_in_child=library_lock.release,
    )

"""Batch deblurring: folders and ``s3://`` addresses of any length, in shards, resumable.

``config`` says what is done, ``manifest`` what there is to do, ``records`` what has been done;
``picture`` takes one picture from the source to the target, ``run`` a shard of them; ``report``
sums the records up; ``on_ray`` runs the shards on a cluster.
"""

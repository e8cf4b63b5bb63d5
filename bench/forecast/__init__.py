"""What a run will take, before it starts: FLOPs, seconds, memory, disk, and what its judges are asked, by stage."""

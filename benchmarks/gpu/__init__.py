"""What a GPU makes of `cifar`: its step in several forms, its repeats, and the whole study."""
